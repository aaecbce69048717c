"""Streams in ON_DEMAND mode split their hot shards and merge their cold ones by themselves."""

import json
import random
import socket

from load import Load
from node import NodeTest, free_port, main, wait_for
from reshard_test import SEED, Datagrams, check_lineage, check_tiling, list_shards

MODE = {"StreamMode": "ON_DEMAND"}
AMZ_JSON = "application/x-amz-json-1.1"


def open_shards(client):
    return client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["OpenShardCount"]


class OnDemand(NodeTest):
    def stream(self, node):
        client = node.boto()
        client.create_stream(StreamName="s", StreamModeDetails=MODE)
        node.wait_active("s", client)
        self.assertEqual(open_shards(client), 4)
        return client

    def set_mode(self, node, client, mode):
        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]

        def is_set():
            try:
                client.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": mode})
            except client.exceptions.ResourceInUseException:
                return False    # a change of shards had just begun
            return True
        wait_for(is_set, f"the mode to be {mode}", 20)
        node.wait_active("s", client)

    def changes(self, node, kind):
        return node.metrics().get("penstock_on_demand_changes_total", kind=kind)

    def test_hot_shards_split_and_cold_ones_merge_while_writers_write(self):
        port = free_port(socket.SOCK_DGRAM)
        node = self.node("--on-demand", "in=64KiB,in-records=1000000,split-after=1,merge-after=2,"
                         "shards-max=9", "--port", "kernel:127.0.0.1", "--door", f"udp:{port}=s")
        client = self.stream(node)
        # 1.5 MB/s: each shard is hot, and a drive that stalls for seconds refuses nobody.
        load, datagrams = Load("s", pause=0.025), Datagrams(port)
        load.start(node)
        datagrams.start()
        # As many as it may have, if the keys that are hot allow it; the last split has some of
        # the shards hot by one key each.
        wait_for(lambda: open_shards(client) >= 7, "three further shards", 40)
        check_tiling(list_shards(client, ShardFilter={"Type": "AT_LATEST"}), "AT_LATEST")
        datagrams.end()
        load.end()
        refused = node.metrics().by("penstock_put_refused_total", "reason")
        self.assertEqual(dict(load.refusals), {}, {k: v for k, v in refused.items() if v})
        wait_for(lambda: open_shards(client) == 4, "cold shards to be merged", 40)
        node.wait_active("s", client)
        udp = check_lineage(client, load)
        self.assertEqual({source: len(counts) for source, counts in udp.items()},
                         dict(datagrams.sent))
        self.assertGreaterEqual(self.changes(node, "split"), 3)
        self.assertGreaterEqual(self.changes(node, "merge"), 3)
        print(f"{len(load.acked)} records acknowledged, {sum(datagrams.sent.values())} datagrams, "
              f"{self.changes(node, 'split'):.0f} splits, {self.changes(node, 'merge'):.0f} merges",
              flush=True)

    def test_one_hot_key_is_not_split_and_warm_throughput_is(self):
        node = self.node("--on-demand", "in=64KiB,in-records=1000000,split-after=1,shards-max=32")
        client = self.stream(node)

        def held():
            return node.metrics().get("penstock_on_demand_held_total", reason="single_key")
        record = {"PartitionKey": "hot", "Data": b"x" * 2000}

        def hot_until_held():
            client.put_records(StreamName="s", Records=[record] * 50)
            return held() >= 1
        wait_for(hot_until_held, "a shard with one hot key to be held", 40)
        self.assertEqual(open_shards(client), 4)
        self.assertIn("is hot by one partition key", node.log())

        def ask(operation, body):
            status, answer = node.http("/", data=json.dumps(body).encode(), headers={
                "Content-Type": AMZ_JSON, "X-Amz-Target": f"Kinesis_20131202.{operation}"})
            return status, json.loads(answer)
        warm = {"StreamName": "s", "WarmThroughputMiBps": 1}
        status, answer = ask("UpdateStreamWarmThroughput", warm)
        self.assertEqual((status, answer["WarmThroughput"]), (200, {"TargetMiBps": 1, "CurrentMiBps": 0}))
        node.wait_active("s", client)
        self.assertEqual(open_shards(client), 16)
        _, summary = ask("DescribeStreamSummary", {"StreamName": "s"})
        self.assertEqual(summary["StreamDescriptionSummary"]["WarmThroughput"],
                         {"TargetMiBps": 1, "CurrentMiBps": 1})
        status, answer = ask("UpdateStreamWarmThroughput", {**warm, "WarmThroughputMiBps": 3})
        self.assertEqual((status, answer["__type"]), (400, "LimitExceededException"))

    def test_a_kill_in_the_midst_of_splits(self):
        chance = random.Random(SEED)
        print(f"seed {SEED} (PENSTOCK_TEST_SEED)", flush=True)
        node = self.node("--on-demand", "in=64KiB,in-records=1000000,split-after=1,merge-after=1,"
                         "shards-max=100")
        client = self.stream(node)
        load = Load("s")
        for _ in range(3):
            before = open_shards(client)
            load.start(node)
            wait_for(lambda: open_shards(client) != before, "a change of shards", 40, step=0.002)
            load.ending.wait(chance.random() * 0.02)
            node.kill()
            load.end()
            node.start()
            client = node.boto()
            node.wait_active("s", client)
        # From now on the shards stay as they are.
        self.set_mode(node, client, "PROVISIONED")
        check_lineage(client, load)


if __name__ == "__main__":
    main()
