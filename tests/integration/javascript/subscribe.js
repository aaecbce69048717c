// SubscribeToShard of the newest JavaScript SDK with its default request handler, which speaks HTTP/2
// and nothing else. Arguments: endpoint, consumer's ARN, shard, starting position as JSON; credentials
// from the environment. Prints one JSON object a line: first {"subscribed":…}, then each event with
// the time it came, then {"end":…}. Ends when its input does.
"use strict";

const sdk = require("@aws-sdk/client-kinesis");

const [endpoint, ConsumerARN, ShardId, position] = process.argv.slice(2);
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
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();

async function main() {
  const answer = await client.send(new sdk.SubscribeToShardCommand({
    ConsumerARN, ShardId, StartingPosition: JSON.parse(position),
  }));
  say({ subscribed: answer.$metadata.httpStatusCode });
  for await (const { SubscribeToShardEvent: event } of answer.EventStream) {
    const now = Date.now();
    say({
      now,
      records: event.Records.map((record) => ({
        data: Buffer.from(record.Data).toString("latin1"), key: record.PartitionKey,
        number: record.SequenceNumber, arrived: record.ApproximateArrivalTimestamp.getTime(),
      })),
      continuation: event.ContinuationSequenceNumber, behind: event.MillisBehindLatest,
      children: event.ChildShards,
    });
  }
  say({ end: "" });
}

main().catch((error) => say({ end: error.name, message: error.message }))
  .finally(() => process.exit(0));
