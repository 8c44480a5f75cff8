export { type CachingService, createCachingService } from "./service.ts";
