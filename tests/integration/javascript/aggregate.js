// Records in the format of the Kinesis Producer Library, made and taken apart by AWS' own library for
// it. `pack` reads user records from its input, [{key, data}], and prints Kinesis records of at most
// 1 MiB; `unpack` does the reverse and checks each checksum. Data is base64 on both sides.
"use strict";

const agg = require("aws-kinesis-agg");

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => {
  const records = JSON.parse(Buffer.concat(chunks));
  const done = (error, out) => {
    if (error) throw error;
    process.stdout.write(JSON.stringify(out));
  };
  if (process.argv[2] === "pack") {
    const out = [];
    agg.aggregate(
      records.map(({ key, data }) => ({ partitionKey: key, data: Buffer.from(data, "base64") })),
      (packed, next) => {
        out.push({ key: packed.partitionKey, data: packed.data.toString("base64") });
        next();
      },
      (error) => done(error, out),
      (error) => { throw error; },
    );
    return;
  }
  const out = [];
  for (const { key, data } of records) {
    agg.deaggregateSync({ kinesisSchemaVersion: "1.0", partitionKey: key, sequenceNumber: "0", data },
      true, (error, found) => {
        if (error) throw error;
        out.push(found.map((one) => ({
          key: one.partitionKey, data: Buffer.from(one.data, "base64").toString("base64"),
        })));
      });
  }
  done(null, out);
});
