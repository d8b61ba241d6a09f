"""How functions, arguments and results become bytes. Nothing here knows of streams.

serialize.py    the ways to pickle: cloudpickle, dill, pickle, source; errors name the object
remote.py       what travels to a worker with a function that needs help there
functions.py    functions that were sent, and whether they may be sent as they were
shipped.py      the user's own modules, for workers that do not have them
reach.py        what a function reaches, and whether any of it has changed
source.py       functions and classes as their text
changed.py      what they have that their text does not say
pieces.py       large arrays, which are not copied
values.py       large arguments, which cross once, by their hash
"""
