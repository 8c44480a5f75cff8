/** How many of something this process holds open: of each tenant, and in all. */
export interface Places {
  /**
   * Takes a place and returns a function that gives it back once; where there is none, which bound
   * is reached.
   */
  take(tenantId: string): (() => void) | "tenant" | "process";
  taken(): number;
}

export function createPlaces({ perTenant, perProcess }: { perTenant: number; perProcess: number }): Places {
  const ofTenant = new Map<string, number>();
  let taken = 0;
  return {
    take(tenantId) {
      const own = ofTenant.get(tenantId) ?? 0;
      if (taken >= perProcess) return "process";
      if (own >= perTenant) return "tenant";
      ofTenant.set(tenantId, own + 1);
      taken += 1;
      let isTaken = true;
      return () => {
        if (!isTaken) return;
        isTaken = false;
        taken -= 1;
        const left = (ofTenant.get(tenantId) ?? 1) - 1;
        if (left > 0) ofTenant.set(tenantId, left);
        else ofTenant.delete(tenantId);
      };
    },
    taken: () => taken,
  };
}
