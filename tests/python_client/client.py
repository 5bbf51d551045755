"""A client of a node that we did not generate for: casts, streams and cancels over mutual TLS.

usage: client.py HOST:PORT NAME FOLDER-OF-CERTIFICATES
"""

import json
import pathlib
import queue
import secrets
import sys
import time

import grpc

from cantrip.v1 import node_pb2 as pb
from cantrip.v1 import node_pb2_grpc as rpc

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def digits(number: int, count: int) -> str:
    """A number in Crockford's base 32."""
    return "".join(CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(count)))


def cast_id() -> str:
    """48 bits of milliseconds, then 80 random bits."""
    return digits(int(time.time() * 1000), 10) + digits(secrets.randbits(80), 16)


def channel(address: str, name: str, folder: pathlib.Path) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(), (folder / "node.key").read_bytes(), (folder / "node.pem").read_bytes()
    )
    # The name in the certificate is the node's, not the address's.
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


def opening(intent: str, gates: list[str]) -> pb.CallerMessage:
    cantrip = pb.Cantrip(
        medium="javascript",
        gates=[pb.Gate(name=gate) for gate in gates],
        wards=json.dumps({"max_turns": 3, "timeout_ms": 60_000}),
        model=pb.Model(name="python", at_caller=True, can_require_calls=True),
    )
    return pb.CallerMessage(open=pb.Open(cast=cast_id(), cantrip=cantrip, intent=intent, events=True))


class Caster:
    """One cast: a queue of what is said, an iterator of what is told."""

    def __init__(self, stub: rpc.NodeStub, first: pb.CallerMessage):
        self.said: queue.Queue = queue.Queue()
        self.said.put(first)
        self.told = stub.Cast(iter(self.said.get, None), timeout=60)

    def say(self, **message) -> None:
        self.said.put(pb.CallerMessage(**message))


def cast(stub: rpc.NodeStub) -> None:
    caster = Caster(stub, opening("Read note.txt", ["read_file", "done"]))
    kinds, events = [], []
    for message in caster.told:
        kind = message.WhichOneof("message")
        kinds.append(kind)
        if kind == "accepted":
            # The node has founded a loom and named the entity: this client has no key to do so.
            assert len(message.accepted.loom) == len(message.accepted.entity) == 36, message
        if kind == "event":
            events.append(json.loads(message.event)["event"])
        if kind == "model_call":
            # The model is here: its one answer is code that runs there.
            assert message.model_call.tools[0].name == "javascript", message
            call = pb.Call(id="1", name="javascript", arguments=json.dumps({"code": "done(read_file('note.txt'))"}))
            answer = pb.ModelAnswer(calls=[call], usage=pb.Usage(prompt_tokens=3, completion_tokens=2), model="python")
            caster.say(model_result=pb.ModelResult(call=message.model_call.call, answer=answer))
        if kind == "refused":
            raise SystemExit(f"refused: {message.refused}")
        if kind == "ended":
            assert (message.ended.how, message.ended.reason) == ("terminated", "done"), message
            assert json.loads(message.ended.result) == "the note of b", message
            assert message.ended.spent.usage.prompt_tokens == 3, message
    caster.said.put(None)
    assert kinds.count("entry") >= 5 and kinds[-1] == "ended", kinds
    assert kinds.index("accepted") < kinds.index("entry"), kinds
    assert {"turn_started", "gate_called", "final"} <= set(events), events


def cancel(stub: rpc.NodeStub) -> None:
    caster = Caster(stub, opening("Wait", ["done"]))
    for message in caster.told:
        kind = message.WhichOneof("message")
        if kind == "model_call":
            caster.say(cancel=pb.Cancel())
        if kind == "ended":
            assert (message.ended.how, message.ended.reason) == ("truncated", "cancelled"), message
    caster.said.put(None)


def refusal(stub: rpc.NodeStub) -> None:
    caster = Caster(stub, opening("Write", ["write_file", "done"]))
    refused = [message.refused for message in caster.told if message.WhichOneof("message") == "refused"]
    caster.said.put(None)
    assert len(refused) == 1 and refused[0].kind == "denied" and refused[0].rule == "peers.a.gates", refused


def main() -> None:
    address, name, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    with channel(address, name, folder) as open_channel:
        stub = rpc.NodeStub(open_channel)
        # The standard services, by their bytes: serving, and a list of services with ours in it.
        health = open_channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x0fcantrip.v1.Node", timeout=30)
        assert health == b"\x08\x01", health
        reflection = open_channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        listed = next(reflection(iter([b"\x3a\x00"]), timeout=30))
        assert b"cantrip.v1.Node" in listed, listed
        described = stub.Describe(pb.DescribeRequest(), timeout=30)
        assert described.may_cast and described.caller.startswith("a@"), described
        cast(stub)
        cancel(stub)
        refusal(stub)
    print("cast, streamed, cancelled and refused")


if __name__ == "__main__":
    main()
