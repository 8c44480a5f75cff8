import { BlockList, isIP } from "node:net";

/**
 * The caller's address: the socket's peer or, when that is a trusted proxy, the last address in
 * X-Forwarded-For that is none. A header that a client could have written is never believed.
 */
export type AddressReader = (peer: string, forwardedFor: string | undefined) => string;

/** `trusted`: addresses or CIDR ranges, e.g. `10.0.0.0/8`. Throws for one that is neither. */
export function createAddressReader(trusted: readonly string[]): AddressReader {
  const proxies = new BlockList();
  for (const range of trusted) addRange(proxies, range);
  const isTrusted = (address: string) =>
    isIP(address) !== 0 && proxies.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");

  return (peer, forwardedFor) => {
    let address = plain(peer);
    const hops = forwardedFor?.split(",").map((hop) => plain(withoutPort(hop.trim()))) ?? [];
    while (isTrusted(address) && hops.length > 0) {
      const next = hops.pop() ?? "";
      if (isIP(next) === 0) break;
      address = next;
    }
    return address;
  };
}

/**
 * What an address is counted as: itself, or the /64 of an IPv6 address, since one customer holds at
 * least that much.
 */
export function addressBlock(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups =
    tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill("0"), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}

/**
 * Some proxies write `1.2.3.4:567`, `[2001:db8::1]:567` or `[2001:db8::1]` (RFC 7239, section 6).
 */
function withoutPort(hop: string): string {
  const [, bracketed, ipv4] = /^(?:\[([^\]]+)\](?::\d{1,5})?|([\d.]+):\d{1,5})$/.exec(hop) ?? [];
  return bracketed ?? ipv4 ?? hop;
}

/** IPv4 peers of a dual-stack socket arrive as ::ffff:1.2.3.4. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}

function addRange(list: BlockList, range: string): void {
  const [address = "", bits] = range.split("/");
  const family = isIP(address);
  const prefix = bits === undefined ? (family === 6 ? 128 : 32) : Number(bits);
  const valid =
    family !== 0 && Number.isInteger(prefix) && prefix >= 0 && prefix <= (family === 6 ? 128 : 32);
  if (!valid) throw new Error(`"${range}" is neither an address nor a CIDR range`);
  list.addSubnet(address, prefix, family === 6 ? "ipv6" : "ipv4");
}
