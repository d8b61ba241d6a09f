/* Small generated files: one value, or a few lines. They are made when they are read, at offset 0; what is read further
 * on in the same open file is what was made then, so no reader sees two moments mixed (the last few are kept; older
 * ones are made again). */
#ifndef PPFS_TEXT_H
#define PPFS_TEXT_H
#include <stdio.h>

#include "fs/fs.h"

int texts_create(struct texts **out);
void texts_destroy(struct texts *t); /* accepts NULL */

/* The content now, malloc'd (caller frees). 0 or -errno. */
int text_make(struct fs *fs, fuse_ino_t ino, char **bytes, size_t *size);

/* Of kinds that have a text function. */
void text_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void text_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, const struct fuse_file_info *fi);
void text_write(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size);
/* Answers a READ of the open file fh with its part of bytes, which it owns from here on, and keeps them for further
 * reads. */
void text_answer(struct fs *fs, fuse_req_t req, uint64_t fh, char *bytes, size_t total, size_t size, off_t off);
/* Answers from what is kept. false: nothing is. */
bool text_answer_kept(struct fs *fs, fuse_req_t req, uint64_t fh, size_t size, off_t off);

void text_time(FILE *out, int64_t us); /* a line: RFC 3339, in UTC */
/* A whole number with nothing but white space around it. 0 or -EINVAL. */
int text_number(const char *value, long *out);
#endif
