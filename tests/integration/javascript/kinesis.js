// The newest JavaScript SDK with its default request handler, which speaks HTTP/2 and nothing else.
// Arguments: endpoint, stream; AWS_ACCESS_KEY_ID and its companions from the environment. Prints one
// JSON object with what it found.
"use strict";

const sdk = require("@aws-sdk/client-kinesis");

const [endpoint, stream] = process.argv.slice(2);
const client = new sdk.KinesisClient({
  endpoint,
  region: "us-east-1",
  credentials: {
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    sessionToken: process.env.AWS_SESSION_TOKEN,
  },
  maxAttempts: 1,
});
const send = (name, input = {}) => client.send(new sdk[name + "Command"](input));

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

async function main() {
  await send("CreateStream", { StreamName: stream, ShardCount: 1 });
  const deadline = Date.now() + 30000;
  for (;;) {
    const { StreamDescriptionSummary } = await send("DescribeStreamSummary", { StreamName: stream });
    if (StreamDescriptionSummary.StreamStatus === "ACTIVE") break;
    if (Date.now() > deadline) throw new Error("the stream did not become ACTIVE");
    await pause();
  }
  const one = await send("PutRecord", {
    StreamName: stream, PartitionKey: "k", Data: Buffer.from("first"),
  });
  // Larger than the windows of a connection are at first.
  const large = Buffer.alloc(700000, "x");
  let records = [large, large, large, large].map((Data, i) => ({ PartitionKey: "k" + i, Data }));
  while (records.length > 0) {
    const { Records: put } = await send("PutRecords", { StreamName: stream, Records: records });
    // A record may be pushed back, for instance while room on the disks is being reserved.
    records = records.filter((_, i) => put[i].ErrorCode);
    if (Date.now() > deadline) throw new Error("records were pushed back for too long");
    await pause();
  }
  const { ShardIterator } = await send("GetShardIterator", {
    StreamName: stream, ShardId: one.ShardId, ShardIteratorType: "TRIM_HORIZON",
  });
  const sizes = [];
  for (let next = ShardIterator; sizes.length < 5;) {
    const got = await send("GetRecords", { ShardIterator: next });
    sizes.push(...got.Records.map((record) => record.Data.length));
    next = got.NextShardIterator;
    if (Date.now() > deadline) throw new Error("the records did not come back");
    await pause();
  }
  // At once, over connections of their own or shared ones, as the handler likes.
  const listed = await Promise.all(Array.from({ length: 20 }, () => send("ListStreams")));
  let refused = "";
  await send("DescribeStream", { StreamName: "none" }).catch((error) => { refused = error.name; });
  process.stdout.write(JSON.stringify({
    sizes, refused,
    listed: listed.filter((answer) => answer.StreamNames.includes(stream)).length,
  }));
  client.destroy();
}

main().catch((error) => {
  process.stderr.write(`${error.name}: ${error.message}\n`);
  process.exitCode = 1;
});
