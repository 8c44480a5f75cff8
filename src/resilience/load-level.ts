import { monitorEventLoopDelay } from "node:perf_hooks";
import { PRIORITIES, type Priority } from "../core/priority.ts";

/**
 * How loaded this process is, as a step of a ladder. Pressure is the largest of three signals
 * (event-loop delay, requests in flight, reads waiting for Postgres), each divided by its
 * threshold. Each doubling is a step. It goes up at once, and down one step at a time and only well
 * below the threshold, so that it does not flicker.
 */
export const LOAD_LEVELS = [
  "normal",
  /** Answers outdated a moment ago are served as they are. */
  "stale",
  /** What must be computed is computed at a coarser granularity. */
  "coarse",
  "refuse_low",
  "refuse_normal",
  "refuse_high",
  /** Critical reads and event ingestion too: the process could only make things worse. */
  "refuse_all",
] as const;
export type LoadLevel = (typeof LOAD_LEVELS)[number];

export interface LoadThresholds {
  /** Mean delay of the event loop. */
  loopDelayMs: number;
  /** Requests in flight, event ingestion not counted. */
  inFlight: number;
}

export interface LoadSignals {
  loopDelayMs: number;
  inFlight: number;
  /** Reads that run or wait, by their threshold. */
  readPressure: number;
}

export interface LoadMonitor {
  level(): LoadLevel;
  /** True from this level on. */
  atLeast(level: LoadLevel): boolean;
  refuses(priority: Priority): boolean;
  signals(): LoadSignals;
  /** A request has begun; call the result when it ends. */
  begin(): () => void;
  start(): void;
  stop(): void;
  /** One sample: what `start` does every SAMPLE_MS. */
  runOnce(): void;
}

const SAMPLE_MS = 250;
/** Weight of the newest sample: a single slow turn of the loop is no load. */
const SMOOTHING = 0.4;
/** Samples at a level before it may be left downwards. */
const STEP_DOWN_AFTER = 2;
/** How far below its threshold pressure must be for a level to be left. */
const STEP_DOWN_BELOW = 0.7;

export function createLoadMonitor(
  thresholds: LoadThresholds,
  sources: {
    readPressure: () => number;
    loopDelayMs?: () => number;
    onChange?: (level: LoadLevel, step: number) => void;
  },
): LoadMonitor {
  const delays = monitorEventLoopDelay({ resolution: 10 });
  delays.enable();
  const measureDelayMs = sources.loopDelayMs ?? (() => takeMeanMs(delays));
  let inFlight = 0;
  let loopDelayMs = 0;
  let step = 0;
  let calmSamples = 0;
  let timer: Timer | undefined;

  function runOnce(): void {
    loopDelayMs += SMOOTHING * (measureDelayMs() - loopDelayMs);
    const pressure = Math.max(
      loopDelayMs / thresholds.loopDelayMs,
      inFlight / thresholds.inFlight,
      sources.readPressure(),
    );
    const wanted = stepOf(pressure);
    const calm = wanted < step && stepOf(pressure / STEP_DOWN_BELOW) < step;
    calmSamples = calm ? calmSamples + 1 : 0;
    if (wanted > step) moveTo(wanted);
    else if (calmSamples >= STEP_DOWN_AFTER) moveTo(step - 1);
  }

  function moveTo(next: number): void {
    step = next;
    calmSamples = 0;
    sources.onChange?.(LOAD_LEVELS[step] ?? "normal", step);
  }

  /** Reads pile up within milliseconds: they count as they are, not as they were sampled. */
  const current = () => Math.max(step, stepOf(sources.readPressure()));

  return {
    level: () => LOAD_LEVELS[current()] ?? "normal",
    atLeast: (level) => current() >= LOAD_LEVELS.indexOf(level),
    refuses: (priority) => current() >= LOAD_LEVELS.indexOf("refuse_low") + PRIORITIES.indexOf(priority),
    signals: () => ({ loopDelayMs, inFlight, readPressure: sources.readPressure() }),
    begin() {
      inFlight += 1;
      return () => {
        inFlight -= 1;
      };
    },
    start() {
      timer = setInterval(runOnce, SAMPLE_MS);
      timer.unref();
    },
    stop() {
      clearInterval(timer);
      delays.disable();
    },
    runOnce,
  };
}

/** 0 below the threshold, 1 from there on, one more for each doubling. */
function stepOf(pressure: number): number {
  if (pressure < 1) return 0;
  return Math.min(1 + Math.floor(Math.log2(pressure)), LOAD_LEVELS.length - 1);
}

/** Mean delay since the last call, in ms. */
function takeMeanMs(delays: ReturnType<typeof monitorEventLoopDelay>): number {
  const meanMs = delays.mean / 1e6;
  delays.reset();
  return Number.isFinite(meanMs) ? meanMs : 0;
}
