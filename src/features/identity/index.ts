export { type ApiKeysService, createApiKeysService } from "./api-keys-service.ts";
export { createCredentialVerifier } from "./credentials.ts";
export { createInvitationTokens } from "./invitation-tokens.ts";
export { createInvitationsService, type InvitationsService } from "./invitations.ts";
export { createMembersService, type MembersService } from "./members.ts";
export { prunePasswordResets } from "./passwords/repository.ts";
export {
  RESET_PAGE_PATH,
  RESET_STYLE,
  resetDone,
  resetForm,
} from "./passwords/reset-page.ts";
export { createPasswordsService, type PasswordsService } from "./passwords/service.ts";
export { createSignInDelays, pruneSignInDelays } from "./passwords/sign-in-delays.ts";
export { pruneApiKeys, pruneInvitations, pruneRefreshTokens } from "./pruning.ts";
export { createIdentityService, DEFAULT_TENANT, type IdentityService } from "./service.ts";
export { createTenantService, type TenantService } from "./tenant.ts";
export {
  createTenantSettingsReader,
  type ReadTenantSettings,
  type TenantSettings,
} from "./tenant-settings.ts";
export { createTimeZones, type TimeZones } from "./time-zones.ts";
export { createAccessTokens } from "./tokens.ts";
