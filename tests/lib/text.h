/* Messages of the protocol written as text, so that a table of requests can be read:
 *
 *	spawn { program: "/bin/sh" args: "-c" args: "exit 3" umask: 18 orphan: ORPHAN_KEEP }
 *
 * Fields by their names in redd.proto; numbers, names of enum values (or any number in their
 * place), true and false, and "text" with \n, \", \\ and \xNN. `"ab"*3` is "ababab";
 * `args*3: "x#"` gives the field three times, with its count from 0 in the place of #.
 */
#ifndef TESTS_LIB_TEXT_H
#define TESTS_LIB_TEXT_H

#include <protobuf-c/protobuf-c.h>

#include "proto/base/buf.h"

/* Appends the message's bytes, without a length in front. Text that cannot be read is a mistake in
 * the test: it is shown, and the test aborts. */
void text_pack(struct buf *out, const ProtobufCMessageDescriptor *type, const char *text);

/* Appends the frame of a request, its length in front; id 0: without one. */
void text_pack_request(struct buf *out, uint64_t id, const char *text);

#endif
