"""An OpenDHT node of the PyPI package, driven by one JSON object a line.

Every request carries a number `n`; its answer carries the same as `re`. Values found by `listen` arrive
between answers, as `{"listen": n, "expired": bool, "value": {..}}`. Byte strings are hexadecimal.
"""

import argparse
import json
import os
import socket
import sys
import threading

import opendht

WRITE = threading.Lock()


def say(message):
    with WRITE:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def public_key(key):
    """Ids of a key, or None where a value has no owner."""
    try:
        return {"id": key.getId().toString().decode(), "long_id": key.getLongId().toString().decode()}
    except ValueError:
        return None


def info_hash(value):
    text = value.toString().decode()
    return None if set(text) == {"0"} else text


def describe(value):
    return {
        "id": value.id,
        "data": value.data.hex(),
        "user_type": value.user_type,
        "owner": public_key(value.owner),
        "recipient": info_hash(value.recipient),
    }


class Peer:
    def __init__(self, arguments):
        config = opendht.DhtConfig()
        config.setNetwork(arguments.network)
        config.setRateLimit(-1, -1)
        self.identity = None
        if arguments.identity:
            self.identity = opendht.Identity.generate(arguments.identity, opendht.Identity(), arguments.bits)
            config.setIdentity(self.identity)
        self.node = opendht.DhtRunner()
        self.node.run(port=arguments.port, ipv4="127.0.0.1", config=config)
        self.tokens = {}

    def hello(self):
        # Of the runner only the key is asked for: without an identity there is none.
        return {
            "version": opendht.version(),
            "port": self.node.getBound().getPort(),
            "node": self.node.getNodeId().toString().decode(),
            "key": public_key(self.identity.publickey) if self.identity else None,
        }

    def bootstrap(self, host, port):
        self.node.bootstrap(host, str(port))
        return {}

    def nodes(self):
        """Nodes that answered lately, by the routing table's own account."""
        log = self.node.getRoutingTablesLog(socket.AF_INET)
        return {"good": log.count("[good]")}

    def put(self, key, data, done, kind="plain", to=None, id=None, user_type=None, permanent=False):
        value = opendht.Value(bytes.fromhex(data))
        if id is not None:
            value.id = id
        if user_type is not None:
            value.user_type = user_type
        arguments = (opendht.InfoHash(key.encode()), value)
        finished = lambda ok, nodes: done({"ok": ok, "id": value.id})
        if kind == "plain":
            self.node.put(*arguments, done_cb=finished, permanent=permanent)
        elif kind == "signed":
            self.node.putSigned(*arguments, done_cb=finished, permanent=permanent)
        elif kind == "encrypted":
            recipient = opendht.PkId(to.encode())
            self.node.putEncrypted(*arguments, recipient, done_cb=finished, permanent=permanent)
        else:
            raise ValueError(f"no kind of put called {kind}")

    def get(self, key, done, where=None):
        found = []
        self.node.get(
            opendht.InfoHash(key.encode()),
            get_cb=lambda value: found.append(describe(value)) or True,
            done_cb=lambda ok, nodes: done({"ok": ok, "values": found}),
            where=opendht.Where(where) if where else None,
        )

    def listen(self, n, key):
        def arrived(value, expired):
            say({"listen": n, "expired": expired, "value": describe(value)})
            return True

        self.tokens[n] = self.node.listen(opendht.InfoHash(key.encode()), arrived)
        return {}

    def cancel(self, listen):
        self.node.cancelListen(self.tokens.pop(listen))
        return {}

    def handle(self, request):
        n = request.pop("n")
        op = request.pop("op")

        def done(answer):
            say({"re": n, **answer})

        try:
            if op in ("put", "get"):
                getattr(self, op)(done=done, **request)
            elif op == "listen":
                done(self.listen(n, **request))
            elif op in ("bootstrap", "cancel", "nodes"):
                done(getattr(self, op)(**request))
            else:
                raise ValueError(f"no operation called {op}")
        except Exception as error:  # whatever the bindings raise belongs to the request
            done({"error": f"{type(error).__name__}: {error}"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--network", type=int, default=0)
    parser.add_argument("--identity")
    parser.add_argument("--bits", type=int, default=2048)
    peer = Peer(parser.parse_args())
    say({"re": 0, **peer.hello()})
    for line in sys.stdin:
        peer.handle(json.loads(line))
    # The library's own shutdown waits for its thread, which may be waiting for the interpreter.
    os._exit(0)


main()
