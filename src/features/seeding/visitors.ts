import { createRandom, createWeightedDraw, type Random, zipfWeights } from "./random.ts";

/** Who a session belongs to, and what the browser tells about them. */
export interface Visitor {
  userId?: string;
  anonymousId?: string;
  properties: Record<string, string>;
}

export interface Visitors {
  /**
   * The visitor of a new session: a known user, or somebody anonymous, who may have been here
   * before.
   */
  draw(random: Random): Visitor;
}

/** Values with their shares of all visitors. */
type Shares = readonly (readonly [value: string, share: number])[];

const COUNTRIES: Shares = [
  ["DE", 34],
  ["FR", 16],
  ["GB", 14],
  ["NL", 9],
  ["AT", 8],
  ["ES", 7],
  ["IT", 6],
  ["PL", 4],
  ["SE", 2],
];
const DEVICES: Shares = [
  ["mobile", 58],
  ["desktop", 36],
  ["tablet", 6],
];
const SYSTEMS: Readonly<Record<string, Shares>> = {
  mobile: [
    ["Android", 58],
    ["iOS", 42],
  ],
  tablet: [
    ["iPadOS", 70],
    ["Android", 30],
  ],
  desktop: [
    ["Windows", 68],
    ["macOS", 25],
    ["Linux", 7],
  ],
};
const BROWSERS: Readonly<Record<string, Shares>> = {
  Android: [
    ["Chrome", 84],
    ["Firefox", 10],
    ["Edge", 6],
  ],
  iOS: [
    ["Safari", 88],
    ["Chrome", 12],
  ],
  iPadOS: [
    ["Safari", 92],
    ["Chrome", 8],
  ],
  Windows: [
    ["Chrome", 62],
    ["Edge", 24],
    ["Firefox", 14],
  ],
  macOS: [
    ["Safari", 56],
    ["Chrome", 36],
    ["Firefox", 8],
  ],
  Linux: [
    ["Firefox", 55],
    ["Chrome", 45],
  ],
};
/** Where a session comes from; a campaign brings its utm_source along. */
const ORIGINS: Shares = [
  ["direct", 34],
  ["google.com", 30],
  ["instagram.com", 9],
  ["bing.com", 5],
  ["utm:newsletter", 9],
  ["utm:google", 8],
  ["utm:instagram", 5],
];
const CAMPAIGN_REFERRERS: Readonly<Record<string, string>> = {
  google: "google.com",
  instagram: "instagram.com",
};

const KNOWN_SHARE = 0.55;
/** Some users come nearly every day, most now and then. */
const LOYALTY = { exponent: 0.7, flatten: 5 };
/** Anonymous visitors who come back are among the last few. */
const ANONYMOUS_RETURN = 0.25;
const RECENT_ANONYMOUS = 200;
/** Random streams of the single users and visitors start here; the ones below are taken. */
const FIRST_USER_STREAM = 1_000;
const FIRST_ANONYMOUS_STREAM = 0x4000_0000;

export function createVisitors(seed: number, users: number): Visitors {
  const drawUser = createWeightedDraw(zipfWeights(users, LOYALTY.exponent, LOYALTY.flatten));
  const digits = Math.max(4, String(users).length);
  let anonymousCount = 0;

  /**
   * The same for every session of a person: drawn from a stream of their own, so nothing needs to
   * be stored.
   */
  const traitsOf = (stream: number) => {
    const own = createRandom(seed, stream);
    const device = pick(own, DEVICES);
    const os = pick(own, SYSTEMS[device] ?? []);
    return { device, country: pick(own, COUNTRIES), browser: pick(own, BROWSERS[os] ?? []), os };
  };

  return {
    draw(random) {
      const origin = originOf(pick(random, ORIGINS));
      if (random.chance(KNOWN_SHARE)) {
        const index = drawUser(random);
        const userId = `user-${String(index + 1).padStart(digits, "0")}`;
        return { userId, properties: { ...traitsOf(FIRST_USER_STREAM + index), ...origin } };
      }
      const returns = anonymousCount > 0 && random.chance(ANONYMOUS_RETURN);
      const back = returns ? random.between(0, Math.min(RECENT_ANONYMOUS, anonymousCount) - 1) : -1;
      const index = returns ? anonymousCount - 1 - back : anonymousCount++;
      const anonymousId = `anon-${seed}-${index + 1}`;
      return { anonymousId, properties: { ...traitsOf(FIRST_ANONYMOUS_STREAM + index), ...origin } };
    },
  };
}

function originOf(origin: string): Record<string, string> {
  const [kind, source] = origin.split(":");
  if (kind !== "utm" || source === undefined) return origin === "direct" ? {} : { referrer: origin };
  const referrer = CAMPAIGN_REFERRERS[source];
  return referrer ? { referrer, utm_source: source } : { utm_source: source };
}

function pick(random: Random, shares: Shares): string {
  let total = 0;
  for (const [, share] of shares) total += share;
  let left = random.next() * total;
  for (const [value, share] of shares) {
    left -= share;
    if (left < 0) return value;
  }
  return shares.at(-1)?.[0] ?? "";
}
