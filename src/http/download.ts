import { createCollector } from "../core/memory.ts";

const COLLECT_EVERY_BYTES = 8 * 1024 * 1024;
const encoder = new TextEncoder();

/**
 * CSV as a file to save, sent as fast as the client takes it. Rejects when the first page can't be had, so that this is
 * still a problem; a failure on the way breaks the answer off, visibly.
 */
export async function csvStream(text: AsyncIterable<string>, fileName: string): Promise<Response> {
  const pages = text[Symbol.asyncIterator]();
  const collect = createCollector(COLLECT_EVERY_BYTES);
  let next = await pages.next();
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // A pull that brings nothing is not repeated: the client would wait for ever.
        while (!next.done && next.value === "") next = await pages.next();
        if (next.done) return controller.close();
        controller.enqueue(encoder.encode(next.value));
        collect(next.value.length);
        next = await pages.next();
      },
      async cancel() {
        await pages.return?.();
      },
    },
    // Nothing is made ahead of the client.
    { highWaterMark: 0 },
  );
  return new Response(stream, {
    headers: {
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": `attachment; filename="${fileName}"`,
    },
  });
}
