/* What several statements say alike: states and the like by their numbers, which are on the disk and so never change;
 * the text has them, for SQLite uses an index of some rows only where the text says which rows these are. */
#ifndef PPFS_STORE_TEXT_H
#define PPFS_STORE_TEXT_H
#include "sched/db/store_jobs.h"

#define DRAFT "0"
#define HELD "1"
#define WAITING "2"
#define QUEUED "3"
#define RUNNING "4"
#define DONE "5"
#define FAILED "6"
#define CANCELLED "7"
#define ACTIVE "BETWEEN " HELD " AND " RUNNING
_Static_assert(JOB_DRAFT == 0 && JOB_HELD == 1 && JOB_WAITING == 2 && JOB_QUEUED == 3 && JOB_RUNNING == 4 &&
                   JOB_DONE == 5 && JOB_FAILED == 6 && JOB_CANCELLED == 7,
               "states");

#define IN_JOBS "0"
#define IN_RESULTS "1"
#define IN_FAILURES "2"
#define IN_NONE "3"
#define ORPHAN "4"
#define PART "5"
_Static_assert(SHELF_JOBS == 0 && SHELF_RESULTS == 1 && SHELF_FAILURES == 2 && SHELF_GONE == 3, "listings");
_Static_assert(SHELF_ORPHAN == 4 && SHELF_PART == 5, "listings");

#define FLUSHED "1"
#define SEALED "4"
#define FLUSHED_OR_SEALED "5"
#define KEEPS "64"
_Static_assert(FLAG_FLUSHED == 1 && FLAG_SEALED == 4 && FLAG_KEEPS == 64, "flags");

#define UNPLACED "-1"
#define ANY_PLACE "''"
#define PICKLES "'p'"
_Static_assert(NOT_PLACED == -1, "not_before");

#define IN_LOG "-1"
#define BODIES_OF_JOB "8"
#define BODY_OF(id) id "&7"
#define JOB_OF(id) id ">>3"
#define WAITING_BODY "5"
_Static_assert(BODY_LOG == -1 && BODIES == 8 && BODY_SPEC == 0 && BODY_WAITING == 5, "bodies");

/* The data of a row of a log, and of a function, are its bytes; or an integer: of a log so many bytes, which stand in
 * its file; of a function the id whose spec has them. row: "", "new." and the like; of a function never "", for bodies
 * has a column of that name. */
#define LOG_END(row) row "start+CASE typeof(" row "data) WHEN 'integer' THEN " row "data ELSE length(" row "data) END"
#define FUNCTION_SIZE(row)                                                                                             \
    "CASE typeof(" row "data) WHEN 'integer' THEN ifnull((SELECT size FROM main.bodies WHERE id=" row                  \
    "data*" BODIES_OF_JOB "), 0) ELSE length(" row "data) END"
#endif
