// A consumer library that knows nothing of Penstock: lifion-kinesis, with the AWS SDK for JavaScript,
// version 2. It shares out shards by leases, follows splits and merges, and keeps its state in
// DynamoDB, whose place dynalite takes here, in memory. Arguments: endpoint, stream and options of the
// library as JSON; credentials from the environment. Prints one JSON object a line: each batch of
// records as it comes, or {"error":…}. Ends when its input does.
"use strict";

const aws4 = require("aws4");
const dynalite = require("dynalite");
const Kinesis = require("lifion-kinesis");

const [endpoint, streamName, options] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const credentials = {
  accessKeyId: process.env.AWS_ACCESS_KEY_ID,
  secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  region: "us-east-1",
};

// Of an endpoint that is not AWS' own the library does not tell its signer the host and service when it
// subscribes.
const sign = aws4.sign;
aws4.sign = (request, keys) => {
  Object.assign(request, { service: "kinesis", host: request.url.host });
  sign(request, keys);
  delete request.host;
  return request;
};

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();

const tables = dynalite({ createTableMs: 0, updateTableMs: 0, deleteTableMs: 0 });
tables.listen(0, "127.0.0.1", () => {
  const kinesis = new Kinesis({
    ...credentials,
    endpoint,
    streamName,
    consumerGroup: "test",
    createStreamIfNeeded: false,
    initialPositionInStream: "TRIM_HORIZON",
    leaseAcquisitionInterval: 200,
    leaseAcquisitionRecoveryInterval: 200,
    noRecordsPollDelay: 250,
    pollDelay: 50,
    shouldParseJson: false,
    dynamoDb: { ...credentials, endpoint: `http://127.0.0.1:${tables.address().port}` },
    logger: { warn: (...words) => say({ warning: words.map(String).join(" ") }) },
    ...JSON.parse(options),
  });
  kinesis.on("data", ({ shardId, records }) => say({
    shard: shardId,
    records: records.map(({ data, partitionKey, sequenceNumber }) => ({
      data: Buffer.from(data).toString("latin1"), key: partitionKey, number: sequenceNumber,
    })),
  }));
  kinesis.on("error", (error) => say({ error: `${error.code}: ${error.message}` }));
  kinesis.startConsumer().then(() => say({ started: true }),
    (error) => say({ error: `${error.code}: ${error.message}` }));
});
