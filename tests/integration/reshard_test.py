"""Shards split, merged and scaled while writers write, and the node killed at any point of it."""

import collections
import contextlib
import os
import random
import socket
import threading

from botocore.exceptions import BotoCoreError, ClientError

from load import Ack, Load
from node import LabError, NodeTest, free_port, main, wait_for

KILLS = int(os.environ.get("PENSTOCK_TEST_KILLS", "30"))
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", str(random.SystemRandom().randrange(1 << 32))))
HASHES = 1 << 128
GOES_ON = "goes on with the change of its shards"


class Datagrams:
    """Numbered datagrams from several addresses of loopback, each address a partition key."""

    def __init__(self, port, sources=6, per_second=150):
        self.port, self.per_second = port, per_second
        self.sources = [f"127.0.1.{i + 1}" for i in range(sources)]
        self.sent = collections.Counter()
        self.ending = threading.Event()
        self.thread = None

    def start(self):
        self.ending.clear()
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def end(self):
        self.ending.set()
        self.thread.join(30)

    def _send(self):
        sockets = {}
        for source in self.sources:
            sockets[source] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets[source].bind((source, 0))
        while not self.ending.is_set():
            for source, sender in sockets.items():
                sender.sendto(b"udp-%s-%d" % (source.encode(), self.sent[source]),
                              ("127.0.0.1", self.port))
                self.sent[source] += 1
            self.ending.wait(1 / self.per_second)
        for sender in sockets.values():
            sender.close()


def list_shards(client, **more):
    shards, arguments = [], {"StreamName": "s", **more}
    while True:
        answer = client.list_shards(**arguments)
        shards += answer["Shards"]
        if "NextToken" not in answer:
            return shards
        arguments = {"NextToken": answer["NextToken"]}


def span(shard):
    return (int(shard["HashKeyRange"]["StartingHashKey"]),
            int(shard["HashKeyRange"]["EndingHashKey"]))


def parents_of(shard):
    return [shard[key] for key in ("ParentShardId", "AdjacentParentShardId") if key in shard]


def check_tiling(shards, what):
    at = 0
    for first, last in sorted(map(span, shards)):
        if first != at:
            raise LabError(f"{what}: a range begins at {first}, expected {at}")
        at = last + 1
    if at != HASHES:
        raise LabError(f"{what}: the ranges end at {at}")


def read_to_end(client, shard, children):
    """A shard's records. A closed one must end with exactly its children."""
    shard_id, records = shard["ShardId"], []
    is_closed = "EndingSequenceNumber" in shard["SequenceNumberRange"]
    iterator = client.get_shard_iterator(StreamName="s", ShardId=shard_id,
                                         ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    for _ in range(100_000):
        answer = client.get_records(ShardIterator=iterator)
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if iterator is None:
            told = {child["ShardId"]: child["ParentShards"] for child in answer["ChildShards"]}
            expected = {child["ShardId"]: parents_of(child) for child in children}
            if not is_closed or not told or told != expected:
                raise LabError(f"{shard_id}: ended with {told}, expected {expected}")
            return records
        if "ChildShards" in answer:
            raise LabError(f"{shard_id}: children and an iterator")
        if not is_closed and not answer["Records"] and answer["MillisBehindLatest"] == 0:
            return records
    raise LabError(f"{shard_id} never ends")


def check_lineage(client, load):
    """Ranges, lineage, and every record once, in order per key from parents to children."""
    shards = list_shards(client)
    by_id = {shard["ShardId"]: shard for shard in shards}
    children = collections.defaultdict(list)
    for shard in shards:
        for parent in parents_of(shard):
            children[parent].append(shard)
            if by_id[parent]["SequenceNumberRange"].get("EndingSequenceNumber") is None:
                raise LabError(f"{parent} has a child and is open")
            ending = int(by_id[parent]["SequenceNumberRange"]["EndingSequenceNumber"])
            if ending >= int(shard["SequenceNumberRange"]["StartingSequenceNumber"]):
                raise LabError(f"{shard['ShardId']} begins before {parent} ends")
    for shard in shards:
        own = children[shard["ShardId"]]
        if own and len(own) == 2:
            check_within = sorted(map(span, own))
            if (check_within[0][0], check_within[1][1]) != span(shard):
                raise LabError(f"{shard['ShardId']}: its children have other ranges")
    for kind in ("AT_LATEST", "AT_TRIM_HORIZON"):
        check_tiling(list_shards(client, ShardFilter={"Type": kind}), kind)

    found, last_of_key, highest, udp = {}, {}, {}, collections.defaultdict(list)
    for shard in shards:    # by number: parents first
        shard_id = shard["ShardId"]
        before = max([highest[parent] for parent in parents_of(shard)], default=0)
        for record in read_to_end(client, shard, children[shard_id]):
            number = int(record["SequenceNumber"])
            if number <= before:
                raise LabError(f"{shard_id}: {number} comes after {before}")
            before = number
            name = record["Data"].split(b" ", 1)[0].decode()
            if name.startswith("udp-"):
                _, source, count = name.split("-")
                udp[source].append(int(count))
                continue
            if name in found:
                raise LabError(f"{name} is there twice: {found[name]} and {shard_id} {number}")
            found[name] = Ack(shard_id, record["SequenceNumber"])
            count = int(name.split("-")[1])
            if count <= last_of_key.get(record["PartitionKey"], -1):
                raise LabError(f"{shard_id}: {name} of {record['PartitionKey']} comes after "
                               f"{last_of_key[record['PartitionKey']]}")
            last_of_key[record["PartitionKey"]] = count
        highest[shard_id] = before
    lost = [name for name, ack in load.acked.items() if found.get(name) != ack]
    if lost:
        raise LabError(f"{len(lost)} of {len(load.acked)} acknowledged records are not where they "
                       f"were, such as {lost[0]}: {load.acked[lost[0]]}, {found.get(lost[0])}")
    for source, counts in udp.items():
        for earlier, later in zip(counts, counts[1:]):
            if later <= earlier:
                raise LabError(f"datagram {later} of {source} comes after {earlier}")
    return udp


def change_something(client, chance):
    """One random change of shards; what the stream has too few or too many shards for is another."""
    shards = sorted(list_shards(client, ShardFilter={"Type": "AT_LATEST"}), key=span)
    kind = chance.choice(("split", "merge", "scale"))
    if kind == "merge" and len(shards) > 2:
        at = chance.randrange(len(shards) - 1)
        client.merge_shards(StreamName="s", ShardToMerge=shards[at]["ShardId"],
                            AdjacentShardToMerge=shards[at + 1]["ShardId"])
    elif kind == "scale" or len(shards) > 7:
        target = chance.randrange((len(shards) + 1) // 2, min(2 * len(shards), 8) + 1)
        try:
            client.update_shard_count(StreamName="s", TargetShardCount=target,
                                      ScalingType="UNIFORM_SCALING")
        except ClientError as error:
            if error.response["Error"]["Code"] != "LimitExceededException":
                raise
            at = chance.randrange(len(shards) - 1)
            client.merge_shards(StreamName="s", ShardToMerge=shards[at]["ShardId"],
                                AdjacentShardToMerge=shards[at + 1]["ShardId"])
    else:
        chosen = chance.choice(shards)
        first, last = span(chosen)
        client.split_shard(StreamName="s", ShardToSplit=chosen["ShardId"],
                           NewStartingHashKey=str(chance.randrange(first + 2, last)))


class Reshard(NodeTest):
    def lanes(self):
        return ["--lanes", "0,1"] if os.cpu_count() > 1 else []

    def test_nothing_is_lost_refused_or_out_of_order(self):
        chance = random.Random(SEED)
        print(f"seed {SEED} (PENSTOCK_TEST_SEED)", flush=True)
        port = free_port(socket.SOCK_DGRAM)
        node = self.node(*self.lanes(), "--port", "kernel:127.0.0.1", "--door", f"udp:{port}=s")
        node.create_stream("s", 2)
        client = node.boto()
        load, datagrams = Load("s", pause=0.025), Datagrams(port)
        load.start(node)
        datagrams.start()
        load.wait_progress(500)
        for _ in range(16):
            change_something(client, chance)
            node.wait_active("s", client)
            load.wait_progress(40)
        datagrams.end()
        load.end()
        sent = sum(datagrams.sent.values())

        def all_seen():
            metrics = node.metrics()
            return (metrics.get("penstock_records_committed_total", stream="s") +
                    sum(metrics.by("penstock_dropped_total", "reason").values())
                    >= sent + len(load.acked))
        wait_for(all_seen, f"{sent} datagrams to be committed or counted", 20)
        udp = check_lineage(client, load)
        drops = node.metrics().by("penstock_dropped_total", "reason")
        print(f"{len(load.acked)} records acknowledged, {sent} datagrams, refused "
              f"{dict(load.refusals)}, dropped { {k: v for k, v in drops.items() if v} }", flush=True)
        self.assertEqual(dict(load.refusals), {})
        self.assertEqual({k: v for k, v in drops.items() if v}, {})
        self.assertEqual({source: len(counts) for source, counts in udp.items()},
                         dict(datagrams.sent))
        # And the same from the disk.
        self.assertEqual(node.stop(), 0)
        node.start()
        check_lineage(node.boto(), load)

    def test_kills_at_any_point(self):
        chance = random.Random(SEED)
        print(f"seed {SEED} (PENSTOCK_TEST_SEED), {KILLS} kills", flush=True)
        port = free_port(socket.SOCK_DGRAM)
        node = self.node(*self.lanes(), "--port", "kernel:127.0.0.1", "--door", f"udp:{port}=s")
        node.create_stream("s", 2)
        load, datagrams = Load("s"), Datagrams(port)
        datagrams.start()
        for kill in range(KILLS):
            client = node.boto()
            load.start(node)
            load.wait_progress(40)
            # Before the request, in it, or in one of the steps behind it: they take some
            # milliseconds on this machine, some dozen on a loaded one.
            killer = threading.Timer(chance.random() * 0.04, node.kill)
            killer.start()
            with contextlib.suppress(BotoCoreError):
                change_something(client, chance)
            killer.join()
            load.end()
            node.start()
            client = node.boto()
            node.wait_active("s", client)
            check_tiling(list_shards(client, ShardFilter={"Type": "AT_LATEST"}), "AT_LATEST")
            if kill % 10 == 9 or kill == KILLS - 1:
                check_lineage(client, load)
        datagrams.end()
        check_lineage(client, load)
        print(f"{len(load.acked)} records acknowledged, {sum(datagrams.sent.values())} datagrams, "
              f"{len(list_shards(client))} shards; {node.log().count(GOES_ON)} starts went on with "
              "a change", flush=True)


class Quota(NodeTest):
    def test_provisioned_shards_have_quotas_and_on_demand_ones_have_none(self):
        node = self.node("--shard-quota", "aws")
        node.create_stream("s", 1)
        client = node.boto()
        records = [{"PartitionKey": "k", "Data": b"%d" % i} for i in range(500)]
        # More than a second allows, in what is less than a second on any machine that passes.
        answers = [client.put_records(StreamName="s", Records=records) for _ in range(12)]
        results = [result for answer in answers for result in answer["Records"]]
        refused = [result for result in results if "ErrorCode" in result]
        self.assertGreater(len(refused), 0)
        self.assertEqual({result["ErrorCode"] for result in refused},
                         {"ProvisionedThroughputExceededException"})
        self.assertEqual(len(refused), sum(answer["FailedRecordCount"] for answer in answers))
        shard = list_shards(client)[0]["ShardId"]
        iterator = client.get_shard_iterator(StreamName="s", ShardId=shard,
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]

        def read_until_refused(times):
            for _ in range(times):
                client.get_records(ShardIterator=iterator, Limit=1)
        with self.assertRaises(client.exceptions.ProvisionedThroughputExceededException):
            read_until_refused(200)
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_shard_quota_refused_total", direction="write"),
                         len(refused))
        self.assertEqual(metrics.get("penstock_shard_quota_refused_total", direction="read"), 1)

        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        client.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        node.wait_active("s", client)
        for _ in range(12):
            answer = client.put_records(StreamName="s", Records=records)
            self.assertEqual(answer["FailedRecordCount"], 0)
        read_until_refused(12)


if __name__ == "__main__":
    main()
