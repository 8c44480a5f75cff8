export { createCredentialVerifier } from "./credentials.ts";
export { createIdentityService, DEFAULT_TENANT, type IdentityService } from "./service.ts";
export {
  createTenantSettingsReader,
  type ReadTenantSettings,
  type TenantSettings,
} from "./tenant-settings.ts";
export { createAccessTokens } from "./tokens.ts";
