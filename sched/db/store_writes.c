/* Functions that run one statement which stands beside their name in the list. */
#include "sched/db/store_arrays.h"
#include "sched/db/store_control.h"
#include "sched/db/store_deps.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_keep.h"
#include "sched/db/store_nodes.h"
#include "sched/db/store_sql.h"
#include "sched/db/store_streams.h"

#define VALUES_OF(...) __VA_ARGS__
#define STATEMENT(name, text)
#define WRITE(name, function, parameters, values, text)                                                                \
    int function parameters {                                                                                          \
        return store_run(st, SQL_##name, VALUES_OF values);                                                            \
    }
#include "sched/db/store_statements.def"
