import { lookup } from "node:dns/promises";
import ipaddr from "ipaddr.js";
import { withDeadline } from "../../core/deadline.ts";

/**
 * Keeps webhooks out of the operator's own network (server-side request forgery). A host is
 * resolved once, every address must be public, and the connection goes to those addresses: a name
 * that resolves otherwise a moment later (rebinding) is not asked again. Checked when an endpoint
 * is made and before every attempt.
 */
export interface Address {
  address: string;
  family: number;
}

/** All addresses of a host name. */
export type Resolve = (host: string) => Promise<Address[]>;

export const resolveBySystem: Resolve = (host) => lookup(host, { all: true });

/**
 * A target that nothing may be sent to. The message goes on after "url". The tenant reads it, so it
 * must not tell what an internal name resolves to.
 */
export class ForbiddenTarget extends Error {}

export interface AddressGuardOptions {
  resolve: Resolve;
  /** Development: http and private addresses, too. */
  allowPrivate: boolean;
}

export type AddressGuard = ReturnType<typeof createAddressGuard>;

/**
 * One text for every cause: different texts would tell which names of the operator's network exist.
 */
const NOT_PUBLIC =
  "must have a host that the public DNS knows, with public addresses only; this one is misspelt, unknown or private";
/**
 * The only part of IPv6 that is allocated for global unicast (RFC 3513). No other address is
 * public.
 */
const GLOBAL_IPV6 = ipaddr.parseCIDR("2000::/3");
/**
 * Public addresses that clouds serve to their own machines only, such as metadata and control
 * services. The others (169.254.169.254, 100.100.100.200, 192.0.0.192, fd00:ec2::254) lie in
 * private ranges.
 */
const CLOUD_INTERNAL = [
  "168.63.129.16/32", // Azure WireServer
  "161.26.0.0/16", // IBM Cloud service endpoints
  "166.8.0.0/14", // IBM Cloud service endpoints
  "199.36.153.4/30", // restricted.googleapis.com
  "199.36.153.8/30", // private.googleapis.com
].map((range) => ipaddr.IPv4.parseCIDR(range));

export function createAddressGuard({ resolve, allowPrivate }: AddressGuardOptions) {
  return {
    /**
     * The URL in its normal form: numbers of every kind have become dotted IPv4. Throws
     * ForbiddenTarget.
     */
    parseUrl(text: string): URL {
      const url = URL.canParse(text) ? new URL(text) : null;
      if (!url || !/^https?:$/.test(url.protocol))
        throw new ForbiddenTarget("must be an https URL, such as https://hooks.example.com/footfall");
      if (url.protocol === "http:" && !allowPrivate)
        throw new ForbiddenTarget("must begin with https, not with http");
      if (url.username !== "" || url.password !== "")
        throw new ForbiddenTarget("must have no user name and no password in it");
      if (!allowPrivate && isLocalName(hostOf(url))) throw new ForbiddenTarget(NOT_PUBLIC);
      url.hash = "";
      return url;
    },

    /** Where a connection for this URL may go. Throws ForbiddenTarget. */
    async findAddresses(url: URL, timeoutMs: number): Promise<Address[]> {
      const host = hostOf(url);
      const addresses = ipaddr.isValid(host)
        ? [{ address: host, family: ipaddr.parse(host).kind() === "ipv4" ? 4 : 6 }]
        : await withDeadline(resolve(host), timeoutMs, () => new Error("too slow")).catch(() => []);
      const allowed = allowPrivate || addresses.every(({ address }) => isPublic(address));
      if (addresses.length === 0 || !allowed) throw new ForbiddenTarget(NOT_PUBLIC);
      return addresses;
    },
  };
}

/** Without the brackets of IPv6 and without the trailing dot of a complete name. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
}

/** They name this machine whatever a resolver says (RFC 6761). */
function isLocalName(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost");
}

function isPublic(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== "unicast") return false;
  if (parsed instanceof ipaddr.IPv4) return !CLOUD_INTERNAL.some((range) => parsed.match(range));
  return parsed.match(GLOBAL_IPV6);
}
