/* The store's functions and values of streams, by their users and hashes. */
#ifndef PPFS_STORE_FUNCTIONS_H
#define PPFS_STORE_FUNCTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct store;

#define VALUES_KEEP (256 << 20) /* bytes kept though no stream needs them */
/* Notes that a stream of that user names it. 1: it is there, 0: it is not. */
int store_function_named(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream);
/* Adds a new one. bytes NULL: they are the spec of the id body, which has no job. */
int store_function_put(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream, const void *bytes,
                       size_t size, uint64_t body);
/* Passes the bytes to take and returns its result; or sets *body to the id whose spec has them. -ENOENT */
int store_function_get(struct store *st, uid_t uid, const uint8_t hash[32],
                       int (*take)(void *arg, const void *bytes, size_t size), void *arg, uint64_t *body);
/* Of more than about keep bytes those go that no unfinished stream can need. Returns how many went; their bodies (0:
 * none, or others have them too) are the caller's to drop. As many as FUNCTION_SLICE: there may be more. It walks over
 * all of them when much was put since it last did; again: also when a stream has ended since, but for a twentieth of
 * the time at most. */
#define FUNCTION_SLICE 64
int store_functions_evict(struct store *st, int64_t keep, bool again, uint64_t bodies[FUNCTION_SLICE]);
#endif
