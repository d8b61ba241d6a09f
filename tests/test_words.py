"""One word for one thing: the glossary of CONTRIBUTING.md, and words that it has replaced, which do not come back."""
import re

from rooms import TOP

FOLDERS = ("fs", "sched", "worker", "net", "man", "tests")
TERMS = 30

# (the word, how it is found, the word of today). Of ordinary English words the identifiers alone are looked for.
REPLACED = [
    ("cage", r"\bcage", "cgroup"),
    ("far", r"\bfar_|_far\b|\bFAR_|\bstruct far\b|\bfar\.[ch]", "remote"),
    ("fleet", r"fleet", "registry"),
    ("flight", r"\bflight_|\bstruct flying|_FLYING\b|\bflight\.[ch]", "request journal"),
    ("glue", r"\bglue", "bootstrap"),
    ("guest", r"(?i)guest", "client of the node agent"),
    ("heir", r"(?i)\bheir|_heir", "successor"),
    ("isolate", r"\bisolate_|\bstruct isolated\b|\bisolate\.[ch]", "job process"),
    ("keeper", r"keeper", "supervisor"),
    ("lane", r"\blanes?\b|_lane(?!s\b)", "ready queue"),
    ("lease of a session", r"lease_ms", "time-out"),
    ("loan", r"\bloan|_loan", "shared buffer"),
    ("look", r"\blook_|sched_look|\bstream_look(?!ahead)|\bstruct look\b|\blook\.[ch]", "query, lookahead"),
    ("move", r"sched_move\b|\bmove\.[ch]", "transition"),
    ("outbox", r"outbox", "send queue"),
    ("place", r"\bplace_|\bPLACE_|\bstruct place\b|\bplace\.[ch]", "constraint; job environment"),
    ("sink", r"\bsinks?\b|\bsink_", "file writer"),
    ("source", r"\bsource_(open|peek|took|close)|\bstruct source\b|\bsource\.[ch]", "file reader"),
    ("speed", r"\bspeed_|\bSPEED_|\bstruct speeds\b|\bspeed\.[ch]", "estimate"),
    ("steer", r"(?i)\bsteer", "control"),
    ("stranger", r"strangers?[_./]|_strangers?\b|\bSTRANGERS?_", "peer without a key; orphan"),
    ("template", r"struct template|template_|_template(?!\()|templates? of the workers", "fork server"),
    ("torn", r"\btorn\b|_torn\b", "failed write"),
    ("values", r"\bvalues_[a-z]|\bvalues\.[ch]", "object store"),
]

def folders_with(pattern):
    """The folders with a file whose text or name has the pattern."""
    found = set()
    for folder in FOLDERS:
        for file in (TOP / folder).rglob("*"):
            if file.suffix in (".c", ".h", ".py", ".md", ".1", ".5", ".sh", ".list") and file.name != "test_words.py":
                if re.search(pattern, file.name) or re.search(pattern, file.read_text(errors="replace")):
                    found.add(folder)
    return found


def test_words_that_were_replaced_do_not_come_back():
    wrong = []
    for word, pattern, today in REPLACED:
        wrong += [f"{folder}/ says '{word}' again, which is: {today}" for folder in sorted(folders_with(pattern))]
    assert wrong == []


def test_a_word_is_found():
    far = dict((word, pattern) for word, pattern, _ in REPLACED)["far"]
    assert re.search(far, "far_start(f)") and re.search(far, "struct far *f") and not re.search(far, "as far as is known")
    assert folders_with(r"\bmain\(int argc") >= {"fs", "worker"}


def test_the_glossary_is_short_and_says_each_thing_once():
    text = (TOP / "CONTRIBUTING.md").read_text().partition("## Words")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \|$", text, re.MULTILINE)[1:]
    terms = [term for term, _ in rows]
    assert 20 < len(terms) <= TERMS and len(set(terms)) == len(terms)
    assert [meaning for _, meaning in rows if ". " in meaning or meaning.endswith(".")] == [], "one line each"


NUMBER = r"\b(state|shelf|kind)\W*(?:NOT )?(?:[=<>]+|IN|BETWEEN)\s*\(?\d"


def test_statements_name_states_and_kinds():
    """The migrations of store.c alone have numbers: they say what was at their time."""
    for file in sorted((TOP / "sched/db").glob("*.[cd]*")):
        text = re.sub(r"(?s)migrations\[\] = \{.*?\n\};", "", file.read_text())
        found = [line for line in text.splitlines() if '"' in line and re.search(NUMBER, line)]
        assert not found, f"{file}: {found}: store_text.h has the names"


def test_a_number_in_a_statement_is_found():
    assert all(re.search(NUMBER, text) for text in ("state=5", "row.state BETWEEN 1 AND 4", "kind IN (1, 8)", "shelf<>5"))
    assert not re.search(NUMBER, 'state=" DONE " AND id=1')
