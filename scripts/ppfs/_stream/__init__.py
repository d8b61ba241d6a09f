"""The client's side of a stream: futures in, frames out, answers back.

frames.py       the bytes of a stream, as ppfs-stream(5) describes them
size.py         calls that are too large for a stream
outcome.py      what one answer means: a value or an exception
future.py       the future of a call; it ends once
send_queue.py   bytes on their way to jobs/NAME; each is written once, in order
inbox.py        bytes that came from results/NAME; each is delivered, none is lost to a Ctrl-C
threads.py      events and threads that a Ctrl-C does not break
connection.py   the lock, the calls under way, and whoever reads
channel.py      calls that are sent, in the order of one queue, up to a limit
"""
