import { describe, expect, test } from "bun:test";
import { addressBlock, createAddressReader } from "../../src/http/client-address.ts";

describe("the client's address", () => {
  test.each<[string, string[], string, string | undefined, string]>([
    ["is the peer's without proxies", [], "203.0.113.9", "1.2.3.4", "203.0.113.9"],
    ["is the peer's when it is no proxy", ["10.0.0.0/8"], "203.0.113.9", "1.2.3.4", "203.0.113.9"],
    ["is what the proxy says", ["10.0.0.0/8"], "10.1.2.3", "1.2.3.4", "1.2.3.4"],
    [
      "is the last hop before the proxies",
      ["10.0.0.0/8"],
      "10.1.2.3",
      "6.6.6.6, 1.2.3.4, 10.9.9.9",
      "1.2.3.4",
    ],
    ["is the proxy's without the header", ["10.0.0.0/8"], "10.1.2.3", undefined, "10.1.2.3"],
    ["is the proxy's when all hops are proxies", ["10.0.0.0/8"], "10.1.2.3", "10.0.0.1", "10.0.0.1"],
    ["is not a text that is none", ["10.0.0.0/8"], "10.1.2.3", "1.2.3.4, unknown", "10.1.2.3"],
    ["is not an empty text", ["10.0.0.0/8"], "10.1.2.3", "", "10.1.2.3"],
    ["is IPv4 without its port", ["10.0.0.0/8"], "10.1.2.3", "1.2.3.4:80", "1.2.3.4"],
    ["is IPv6 without its port", ["10.0.0.0/8"], "10.1.2.3", "[2606:4700::1]:443", "2606:4700::1"],
    ["is IPv6 without its brackets", ["10.0.0.0/8"], "10.1.2.3", "[2606:4700::1]", "2606:4700::1"],
    ["is a mapped IPv4 without its port", ["10.0.0.0/8"], "10.1.2.3", "[::ffff:1.2.3.4]:80", "1.2.3.4"],
    ["is not IPv6 with a digit too much", ["10.0.0.0/8"], "10.1.2.3", "2606:4700::1:99999", "10.1.2.3"],
    ["is not in open brackets", ["10.0.0.0/8"], "10.1.2.3", "[2606:4700::1", "10.1.2.3"],
    [
      "is the hop before a proxy that names its port",
      ["10.0.0.0/8"],
      "10.1.2.3",
      "1.2.3.4:80, 10.9.9.9:5000",
      "1.2.3.4",
    ],
    [
      "is plain IPv4 behind a dual-stack socket",
      ["10.0.0.1"],
      "::ffff:10.0.0.1",
      "::ffff:1.2.3.4",
      "1.2.3.4",
    ],
    ["is IPv6", ["2001:db8::/32"], "2001:db8::1", "2606:4700::1", "2606:4700::1"],
    ["is of one address that is trusted", ["10.0.0.1"], "10.0.0.2", "1.2.3.4", "10.0.0.2"],
  ])("%s", (_, trusted, peer, forwardedFor, expected) => {
    expect(createAddressReader(trusted)(peer, forwardedFor)).toBe(expected);
  });

  test.each(["10.0.0.0/33", "10.0.0", "proxy", "::/129", "10.0.0.0/-1", "10.0.0.0/x", "/8"])(
    "can't be read with %j for a proxy",
    (range) => {
      expect(() => createAddressReader([range])).toThrow(range);
    },
  );
});

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::", "2001:db8:1:2::/64"],
  ["2001:0DB8:0001:0002::1", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["::", "0:0:0:0::/64"],
  ["1::", "1:0:0:0::/64"],
  ["64:ff9b::203.0.113.9", "64:ff9b:0:0::/64"],
  ["unknown", "unknown"],
])("%s counts as %s", (address, block) => {
  expect(addressBlock(address)).toBe(block);
});
