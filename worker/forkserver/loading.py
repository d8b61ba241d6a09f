# Pickles of calls, and what stands beside them: values by their hashes, large arrays where they are. It is one text with
# bootstrap.py.
BUFFERS = b"ppfs.buf"  # behind a pickle: what stands before says where large arrays are in it


def unpickle(payload):
    try:
        return pickle.loads(payload)
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":  # dill's name for its caller's __main__, which only dill can resolve
            raise
    return importlib.import_module("dill").loads(bytes(payload))


def loader_of(base):
    class Loader(base):
        """An unpickler of what may refer to values. given: hash -> (pickle, False) or (the value itself, True)."""

        def __init__(self, payload, given, **more):
            super().__init__(io.BytesIO(payload), **more)
            self.given, self.made = given, {}

        def persistent_load(self, key):
            """A call has one object of a value, however often it refers to it, and no other call has the same."""
            if type(key) is not bytes or len(key) != 32:
                raise Refused("a persistent id in the pickle of the call is not the 32 bytes of a hash")
            if key not in self.made:
                if key not in self.given:
                    raise Refused("the pickle of the call refers to a value that the call does not list")
                what, shared = self.given[key]
                self.made[key] = what if shared else unpickle(what)
            return self.made[key]

    return Loader


Loader = loader_of(pickle.Unpickler)


def unpickle_mapped(payload, given):
    """The pickle of a large call, whose memory is its own: its arrays stay where they are, each as a buffer that is not
    in the pickle. Where they begin stands behind it, see ppfs-stream(5)."""
    pieces, buffers, at = [], [], 0
    for place, begin, size in buffers_of(payload):
        pieces.append(payload[at:place])
        pieces.append(b"\x97" if payload[place] == 0x96 else b"\x97\x98")  # NEXT_BUFFER, READONLY_BUFFER
        at = begin + size
        buffers.append(payload[begin:at])
    if not buffers:
        return unpickle_with(given, payload) if given else unpickle(payload)
    whole = b"".join([*pieces, payload[at:]])
    try:
        return Loader(whole, given, buffers=buffers).load() if given else pickle.loads(whole, buffers=buffers)
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":  # see unpickle
            raise
    return unpickle_with(given, payload) if given else unpickle(payload)


def buffers_of(payload):
    """[(offset of its opcode, of its bytes, their number)] of the large buffers in the pickle, in order; [] where what
    stands behind it does not say so."""
    if payload[-8:] != BUFFERS:
        return []
    count = int.from_bytes(payload[-12:-8], "little")
    end = len(payload) - 12 - 16 * count
    if end < 0:
        return []
    numbers = struct.unpack_from(f"<{2 * count}Q", payload, end)
    places, at = [], 0
    for place, size in zip(numbers[::2], numbers[1::2]):
        if not at <= place < end or payload[place] not in (0x96, 0x42):  # BYTEARRAY8, BINBYTES
            return []
        begin = place + (9 if payload[place] == 0x96 else 5)
        if int.from_bytes(payload[place + 1 : begin], "little") != size or begin + size > end:
            return []
        places.append((place, begin, size))
        at = begin + size
    return places


def unpickle_with(given, payload):
    try:
        return Loader(payload, given).load()
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":  # see unpickle
            raise
    return loader_of(importlib.import_module("dill").Unpickler)(payload, given).load()
