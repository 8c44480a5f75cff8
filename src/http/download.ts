const encoder = new TextEncoder();

/** CSV as a file to save, sent as fast as the client takes it. A failure on the way breaks the answer off, visibly. */
export function csvStream(text: AsyncIterable<string>, fileName: string): Response {
  const pages = text[Symbol.asyncIterator]();
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await pages.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
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
