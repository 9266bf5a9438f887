/* How ports, exits and times are shown, for people and as JSON.
 */
#ifndef REDD_CLI_SHOW_H
#define REDD_CLI_SHOW_H

#include "client/cli/json.h"
#include "client/redd.h"

#define SHOW_SIZE 64

const char *show_state(enum redd_port_state state);
const char *show_kind(enum redd_port_kind kind);
const char *show_orphan(enum redd_orphan orphan);
const char *show_overflow(enum redd_overflow overflow);
const char *show_end(enum redd_end_cause cause);
const char *show_what(enum redd_what what);

/* "lines of up to 65536", "packets of up to 255, length in 1". */
const char *show_framing(const struct redd_framing *f, char out[SHOW_SIZE]);

/* "0", "signal TERM (core)", "unknown", with ", timed out" behind. */
const char *show_exit(const struct redd_exit *e, char out[SHOW_SIZE]);

/* Bytes from elsewhere, for a terminal: control characters and backslashes as \xNN. */
void show_text(FILE *f, const char *text);

/* The program and its arguments, quoted where a shell would need it. */
void show_command(FILE *f, const struct redd_port_info *p);

/* "subscription 3 of 'redd' (pid 42)". */
void show_holder(FILE *f, const struct redd_holder *h);

void json_exit(struct json *j, const char *key, const struct redd_exit *e);
void json_stream(struct json *j, const struct redd_stream_info *s);
void json_port(struct json *j, const struct redd_port_info *p, bool details);
void json_pids(struct json *j, const char *key, const int32_t *pids, size_t n);

/* "key=value" or "key", cut apart in place. */
struct redd_label label_of(char *text);

#endif
