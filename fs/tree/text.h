/* Small generated files: one value, or a few lines. The text is made by the read at offset 0, and later reads of the
 * same open file continue that text, so no reader sees two states mixed (only the latest texts are stored; older ones
 * are made again). */
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
/* Answers a READ of the open file fh from bytes, takes ownership of them and stores them for further reads. */
void text_answer(struct fs *fs, fuse_req_t req, uint64_t fh, char *bytes, size_t total, size_t size, off_t off);
/* Answers from the stored text. false: there is none. */
bool text_answer_kept(struct fs *fs, fuse_req_t req, uint64_t fh, size_t size, off_t off);

void text_time(FILE *out, int64_t us); /* a line: RFC 3339, in UTC */
/* A whole number with nothing but white space around it. 0 or -EINVAL. */
int text_number(const char *value, long *out);
#endif
