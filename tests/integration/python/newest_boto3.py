"""Every operation that this boto3 knows, against the node at sys.argv[1], by ARN wherever it takes one.

Prints one JSON object of what was seen. Run by clients_test.py with the newest boto3 there is, which
knows operations and members that Debian's does not.
"""

import json
import sys
import time

import boto3
import botocore
from botocore.config import Config


class Story:
    def __init__(self, url):
        self.client = boto3.client("kinesis", endpoint_url=url, region_name="us-east-1",
                                   config=Config(retries={"max_attempts": 0}, connect_timeout=5,
                                                 read_timeout=30, proxies={}))
        self.called = set()
        self.client.meta.events.register("before-call.kinesis.*", self.note)

    def note(self, model, **_):
        self.called.add(model.name)

    def refused(self, call, **members):
        try:
            call(**members)
        except self.client.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return None

    def until_active(self, arn):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            summary = self.client.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
            if summary["StreamStatus"] == "ACTIVE":
                return summary
            time.sleep(0.02)
        raise RuntimeError(f"{arn} was not ACTIVE within 20 s")

    def read(self, arn, shard):
        iterator = self.client.get_shard_iterator(StreamARN=arn, ShardId=shard,
                                                  ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        sizes = []
        while iterator:
            answer = self.client.get_records(ShardIterator=iterator, StreamARN=arn)
            sizes += [len(record["Data"]) for record in answer["Records"]]
            if answer["MillisBehindLatest"] == 0:
                break
            iterator = answer.get("NextShardIterator")
        return sizes

    def streams(self):
        client = self.client
        client.create_stream(StreamName="s", ShardCount=2, Tags={"team": "a"}, MaxRecordSizeInKiB=2048)
        arn = client.list_streams()["StreamSummaries"][0]["StreamARN"]
        summary = self.until_active(arn)
        seen = {"arn": arn, "recordSize": summary["MaxRecordSizeInKiB"], "hasStreamId": "StreamId" in summary}
        seen["shards"] = len(client.describe_stream(StreamARN=arn)["StreamDescription"]["Shards"])
        limits = client.describe_limits()
        seen["limits"] = limits["OpenShardCount"]
        return arn, seen

    def records(self, arn):
        client = self.client
        shards = [shard["ShardId"] for shard in client.list_shards(StreamARN=arn)["Shards"]]
        client.put_record(StreamARN=arn, PartitionKey="k", Data=bytes(2_000_000))
        put = client.put_records(StreamARN=arn, Records=[
            {"PartitionKey": f"k{i}", "Data": bytes(i)} for i in range(100)])
        client.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=1024)
        self.until_active(arn)
        return {"failed": put["FailedRecordCount"],
                "sizes": sorted(size for shard in shards for size in self.read(arn, shard)),
                "tooLarge": self.refused(client.put_record, StreamARN=arn, PartitionKey="k",
                                         Data=bytes(2_000_000))}

    def tags(self, arn):
        client = self.client
        client.tag_resource(ResourceARN=arn, Tags={"cost": "7"})
        client.add_tags_to_stream(StreamARN=arn, Tags={"old": "form"})
        client.untag_resource(ResourceARN=arn, TagKeys=["team"])
        client.remove_tags_from_stream(StreamARN=arn, TagKeys=["old"])
        both = [client.list_tags_for_resource(ResourceARN=arn)["Tags"],
                client.list_tags_for_stream(StreamARN=arn)["Tags"]]
        return {"tags": both[0], "same": both[0] == both[1]}

    def policies(self, arn):
        client = self.client
        policy = {"Version": "2012-10-17", "Statement": [{
            "Sid": "one", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kinesis:DescribeStreamSummary",
            "Resource": arn}]}
        client.put_resource_policy(ResourceARN=arn, Policy=json.dumps(policy))
        kept = json.loads(client.get_resource_policy(ResourceARN=arn)["Policy"])
        client.delete_resource_policy(ResourceARN=arn)
        return {"policyKept": kept == policy, "policyAfter": client.get_resource_policy(ResourceARN=arn)["Policy"]}

    def consumers(self, arn):
        client = self.client
        consumer = client.register_stream_consumer(StreamARN=arn, ConsumerName="c", Tags={"of": "consumer"})["Consumer"]
        consumer_arn = consumer["ConsumerARN"]
        status = client.describe_stream_consumer(ConsumerARN=consumer_arn)["ConsumerDescription"]["ConsumerStatus"]
        sizes = []
        for shard in client.list_shards(StreamARN=arn, ShardFilter={"Type": "AT_TRIM_HORIZON"})["Shards"]:
            stream = client.subscribe_to_shard(ConsumerARN=consumer_arn, ShardId=shard["ShardId"],
                                               StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
            for event in stream:
                sizes += [len(record["Data"]) for record in event["SubscribeToShardEvent"]["Records"]]
                if event["SubscribeToShardEvent"]["MillisBehindLatest"] == 0:
                    break
            stream.close()
        seen = {"consumer": status, "subscribed": sorted(sizes),
                "consumers": [one["ConsumerName"] for one in client.list_stream_consumers(StreamARN=arn)["Consumers"]],
                "consumerTags": client.list_tags_for_resource(ResourceARN=consumer_arn)["Tags"]}
        client.deregister_stream_consumer(ConsumerARN=consumer_arn)
        return seen

    def shards(self, arn):
        client = self.client
        first, second = client.list_shards(StreamARN=arn)["Shards"]
        middle = (int(first["HashKeyRange"]["StartingHashKey"]) + int(first["HashKeyRange"]["EndingHashKey"])) // 2
        client.split_shard(StreamARN=arn, ShardToSplit=first["ShardId"], NewStartingHashKey=str(middle))
        self.until_active(arn)
        lower = next(shard for shard in client.list_shards(StreamARN=arn)["Shards"]
                     if int(shard["HashKeyRange"]["StartingHashKey"]) == middle)
        client.merge_shards(StreamARN=arn, ShardToMerge=lower["ShardId"], AdjacentShardToMerge=second["ShardId"])
        self.until_active(arn)
        client.update_shard_count(StreamARN=arn, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
        self.until_active(arn)
        opened = client.list_shards(StreamARN=arn, ShardFilter={"Type": "AT_LATEST"})["Shards"]
        sizes = [size for shard in client.list_shards(StreamARN=arn)["Shards"]
                 for size in self.read(arn, shard["ShardId"])]
        return {"open": len(opened), "sizesAfter": sorted(sizes)}

    def settings(self, arn):
        client = self.client
        client.increase_stream_retention_period(StreamARN=arn, RetentionPeriodHours=48)
        client.decrease_stream_retention_period(StreamARN=arn, RetentionPeriodHours=36)
        client.enable_enhanced_monitoring(StreamARN=arn, ShardLevelMetrics=["ALL"])
        shown = client.disable_enhanced_monitoring(StreamARN=arn, ShardLevelMetrics=["IncomingBytes"])
        client.start_stream_encryption(StreamARN=arn, EncryptionType="KMS", KeyId="alias/aws/kinesis")
        summary = self.until_active(arn)
        client.put_record(StreamARN=arn, PartitionKey="k", Data=b"sealed")
        client.stop_stream_encryption(StreamARN=arn, EncryptionType="KMS", KeyId="alias/aws/kinesis")
        client.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        self.until_active(arn)
        client.update_stream_warm_throughput(StreamARN=arn, WarmThroughputMiBps=5)
        warm = self.until_active(arn)
        client.update_account_settings(MinimumThroughputBillingCommitment={"Status": "ENABLED"})
        account = client.describe_account_settings()["MinimumThroughputBillingCommitment"]["Status"]
        return {"retention": summary["RetentionPeriodHours"], "metrics": len(shown["DesiredShardLevelMetrics"]),
                "encryption": summary["EncryptionType"], "mode": warm["StreamModeDetails"]["StreamMode"],
                "warm": warm["WarmThroughput"]["TargetMiBps"], "account": account}

    def ends(self, arn):
        client = self.client
        client.delete_stream(StreamARN=arn, EnforceConsumerDeletion=True)
        end = time.monotonic() + 20
        while client.list_streams()["StreamNames"] and time.monotonic() < end:
            time.sleep(0.02)
        return {"afterDelete": self.refused(client.describe_stream_summary, StreamARN=arn)}


def main():
    story = Story(sys.argv[1])
    arn, seen = story.streams()
    for part in (story.records, story.tags, story.policies, story.consumers, story.shards, story.settings,
                 story.ends):
        seen |= part(arn)
    seen["notCalled"] = sorted(set(story.client.meta.service_model.operation_names) - story.called)
    seen["versions"] = {"boto3": boto3.__version__, "botocore": botocore.__version__}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
