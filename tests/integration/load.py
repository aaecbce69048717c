"""Writers that remember what was acknowledged, and the check that all of it is there."""

import collections
import threading

from botocore.exceptions import BotoCoreError, ClientError

from node import LabError, read_shard, shard_ids, wait_for

Ack = collections.namedtuple("Ack", "shard sequence")


class Load:
    """Puts uniquely numbered records from several threads until told to end or the node is gone."""

    def __init__(self, stream, threads=4, batch=20, size=600, pause=0):
        """With a pause, in seconds after each call, a drive may stall for long before the node
        has to push back: for tests in which nothing may be refused."""
        self.stream, self.count, self.batch, self.size = stream, threads, batch, size
        self.pause = pause
        self.acked = {}           # id -> Ack
        self.next = [0] * threads
        self.threads = []
        self.ending = threading.Event()
        self.refusals = collections.Counter()
        self.failed = []

    def start(self, node):
        self.ending.clear()
        self.threads = [threading.Thread(target=self._write, args=(i, node.boto()), daemon=True)
                        for i in range(self.count)]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                raise LabError("a writer hangs: the node answers neither yes nor no")
        if self.failed:
            raise self.failed[0]

    def _write(self, writer, client):
        try:
            self._write_until_told(writer, client)
        except Exception as error:  # pylint: disable=broad-except
            self.failed.append(error)

    def _write_until_told(self, writer, client):
        while not self.ending.is_set():
            names = [f"{writer}-{self.next[writer] + i}" for i in range(self.batch)]
            self.next[writer] += self.batch
            records = [{"PartitionKey": f"key-{writer}-{i % 5}",
                        "Data": name.encode() + b" " + b"." * self.size}
                       for i, name in enumerate(names)]
            try:
                answer = client.put_records(StreamName=self.stream, Records=records)
            except ClientError as error:
                self.refusals[error.response["Error"]["Code"]] += 1
                continue
            except BotoCoreError:
                # The node was killed: these may exist.
                if self.ending.wait(0.01):
                    return
                continue
            for name, result in zip(names, answer["Records"]):
                if "ErrorCode" in result:
                    self.refusals[result["ErrorCode"]] += 1
                else:
                    self.acked[name] = Ack(result["ShardId"], result["SequenceNumber"])
            if self.pause:
                self.ending.wait(self.pause)

    def wait_progress(self, more=1, seconds=20):
        """Until so many further records were acknowledged."""
        want = len(self.acked) + more
        wait_for(lambda: len(self.acked) >= want or self.failed,
                 f"{more} more records to be acknowledged (refused: {dict(self.refusals)})", seconds)

    def check(self, client):
        """Every acknowledged record is there once, where the answer said, and in order."""
        found = {}
        for shard in shard_ids(client, self.stream):
            before, per_key = 0, {}
            for record in read_shard(client, self.stream, shard):
                name = record["Data"].split(b" ", 1)[0].decode()
                if record["Data"] != name.encode() + b" " + b"." * self.size:
                    raise LabError(f"{name}: not the bytes that were put")
                if name in found:
                    raise LabError(f"{name} is there twice: {found[name]} and {shard} "
                                   f"{record['SequenceNumber']}")
                found[name] = Ack(shard, record["SequenceNumber"])
                number = int(record["SequenceNumber"])
                if number <= before:
                    raise LabError(f"{shard}: {number} comes after {before}")
                before = number
                # One writer waits for each answer, so a key's numbers only grow.
                count = int(name.split("-")[1])
                key = record["PartitionKey"]
                if count <= per_key.get(key, -1):
                    raise LabError(f"{shard}: {name} of {key} comes after {per_key[key]}")
                per_key[key] = count
        missing = [name for name in self.acked if name not in found]
        if missing:
            raise LabError(f"{len(missing)} of {len(self.acked)} acknowledged records are lost, "
                           f"such as {missing[0]} at {self.acked[missing[0]]}")
        for name, ack in self.acked.items():
            if found[name] != ack:
                raise LabError(f"{name}: acknowledged as {ack}, found at {found[name]}")
        return len(found)
