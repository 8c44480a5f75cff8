import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Sql } from "../../db/client.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { readFills, readPropertyChoice } from "../rollups/index.ts";
import type { Note } from "./notes.ts";

export interface KnownPropertiesDeps {
  sql: Sql;
  lookUps: Sql;
  readGuard: Pick<ReadGuard, "lookUp">;
  readTenantSettings: ReadTenantSettings;
}

export type KnownProperties = ReturnType<typeof createKnownProperties>;

/**
 * Which properties a question may be about, and how far those are that are not fully counted yet.
 */
export function createKnownProperties({ sql, lookUps, readGuard, readTenantSettings }: KnownPropertiesDeps) {
  return {
    /**
     * Throws `invalid_input` that lists the known ones. Settings are remembered for seconds, so a
     * no is checked again.
     */
    async require({ tenantId }: RequestContext, property: string): Promise<void> {
      if ((await readTenantSettings(tenantId)).properties.includes(property)) return;
      const choice = await readGuard.lookUp(() => readPropertyChoice(lookUps, tenantId));
      const names = choice?.properties ?? [];
      if (names.includes(property)) return;
      const known = names.length === 0 ? "there are none" : `there are ${names.join(", ")}`;
      const message = `${known}; PUT /tenants/current/properties chooses them, GET /analytics/properties shows what events carry`;
      throw new AppError("invalid_input", `There is no breakdown by this property: ${message}.`, {
        errors: [{ path: "property", code: "unknown_property", message }],
      });
    },

    /** For an answer that is computed now. */
    async notesOf(tenantId: string, property: string): Promise<{ notes?: Note[] }> {
      const fills = await readFills(sql, tenantId);
      if (!fills.some((fill) => fill.property === property)) return {};
      const message =
        "Earlier events are still being counted for this property, so days of before it was chosen may show too little. GET /tenants/current/properties shows how far it is.";
      return { notes: [{ code: "property_filling", message }] };
    },
  };
}
