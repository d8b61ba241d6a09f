/* Running statements. Only store*.c include this, and sqlite3.h with it. */
#ifndef PPFS_STORE_SQL_H
#define PPFS_STORE_SQL_H
#include <endian.h>
#include <sqlite3.h>
#include <string.h>

#include "sched/db/sums.h"
#include "sched/db/store.h"
#include "sched/db/store_columns.h"
#include "sched/db/store_text.h"

enum sql {
#define STATEMENT(name, text) SQL_##name,
#define WRITE(name, function, parameters, values, text) STATEMENT(name, text)
#include "sched/db/store_statements.def"
#undef WRITE
#undef STATEMENT
    SQL_JOB_SAVE, /* eight forms, by the flags of store_job_save */
    SQL_STATEMENTS = SQL_JOB_SAVE + 8
};

/* What is bound to ?1, ?2 ...: text and bytes must stay until the statement is ended. */
struct value {
    enum { VALUE_INTEGER, VALUE_TEXT, VALUE_BLOB } type;
    int64_t n; /* of a blob: its size */
    const void *bytes;
};
#define INTEGER(i) ((struct value){VALUE_INTEGER, (int64_t)(i), NULL})
#define TEXT(s) ((struct value){VALUE_TEXT, 0, (s)})
#define BLOB(b, size) ((struct value){VALUE_BLOB, (int64_t)(size), (b)})
#define VALUES(...)                                                                                                    \
    (const struct value[]){__VA_ARGS__}, (int)(sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value))

/* Begins the transaction when there is none. 0 or -errno. */
int store_begin(struct store *st);
/* Remembers the first error, for store_commit, with a message (NULL: that of the errno). Returns err. */
int store_failed_by(struct store *st, int err, const char *said);
/* -errno of a result of SQLite; 0: no error. The second remembers it. */
int store_errno_of(const struct store *st, int rc);
int store_errno(struct store *st, int rc);

/* The statement with its values, to be stepped; text NULL: as it stands in the list. NULL after an error, which
 * store_step returns. */
sqlite3_stmt *store_prepare(struct store *st, enum sql which, const char *text);
sqlite3_stmt *store_query_values(struct store *st, enum sql which, const struct value *values, int count);
#define store_query(st, which, ...) store_query_values(st, which, VALUES(__VA_ARGS__))
/* Steps. 1: a row; call store_end after the last wanted one. 0: no more rows, or -errno; the statement has ended. */
int store_step(struct store *st, sqlite3_stmt *q);
void store_end(sqlite3_stmt *q); /* resets and unbinds; accepts NULL */

/* Writes: begins the transaction, runs the statement to its end. 0 or -errno. */
int store_run_query(struct store *st, sqlite3_stmt *q);
#define store_run(st, which, ...) store_run_query(st, store_query(st, which, __VA_ARGS__))
/* Reads one row: 0 *q stands on it, call store_end. -ENOENT there is none, or -errno. */
int store_row_of(struct store *st, sqlite3_stmt *from, sqlite3_stmt **q);
#define store_row(st, q, which, ...) store_row_of(st, store_query(st, which, __VA_ARGS__), q)
/* The same for a statement whose rows begin with a uid, of the next user behind ?1: *uid becomes that user. */
int store_row_in_turn(struct store *st, sqlite3_stmt **q, enum sql which, int64_t *uid);
/* Reads the first count integers of one row. 0, -ENOENT or -errno: then out is as it was. */
int store_integers_of(struct store *st, sqlite3_stmt *from, int64_t *out, int count);
#define store_integers(st, out, count, which, ...)                                                                     \
    store_integers_of(st, store_query(st, which, __VA_ARGS__), out, count)
/* Reads the first integer of each row, max of them. Returns how many, or -errno. */
int store_column_of(struct store *st, sqlite3_stmt *from, uint64_t *out, int max);
#define store_column(st, out, max, which, ...) store_column_of(st, store_query(st, which, __VA_ARGS__), out, max)

int store_pragma(struct store *st, const char *pragma); /* the number it gives, -1 after an error */
int store_changes(const struct store *st);              /* rows that the last statement changed */

static inline int64_t body_id(uint64_t job, enum job_body b) {
    return (int64_t)(job * BODIES + b);
}

/* Can be undone, so that a change within eight bytes always changes the sum. */
static inline uint64_t store_sum_step(uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum << 29 | sum >> 35;
}

/* The checksum of bytes that are kept, in the column sum. */
static inline int64_t store_sum(const void *bytes, size_t size) {
    uint64_t sum = size, word;
    for (const char *at = bytes; size; at += sizeof word) {
        size_t n = size < sizeof word ? size : sizeof word;
        word = 0;
        memcpy(&word, at, n);
        sum = store_sum_step(sum, le64toh(word));
        size -= n;
    }
    return (int64_t)sum;
}

/* Of a row of bodies; before there was an id in it the sum was that of the bytes. */
static inline int64_t store_body_sum(int64_t id, const void *bytes, size_t size) {
    return store_sum(bytes, size) ^ id;
}

static inline bool store_body_sound(int64_t id, int64_t sum, const void *bytes, size_t size) {
    int64_t found = store_sum(bytes, size);
    return sum == (found ^ id) || sum == found;
}

/* Of a file: what stands in the column then. NULL: not known. */
static inline struct value store_sums(const struct sums *s) {
    return s ? BLOB(s->blocks, s->count * sizeof(uint64_t)) : TEXT(NULL);
}

static inline void store_copy(sqlite3_stmt *q, int column, char *buf, size_t size) {
    const unsigned char *text = sqlite3_column_text(q, column);
    size_t n = text ? (size_t)sqlite3_column_bytes(q, column) : 0;
    n = n < size ? n : size - 1;
    for (size_t i = 0; i < n; i++)
        buf[i] = (char)text[i];
    buf[n] = 0;
}
#endif
