/* Log lines on stderr: "redd-broker[123]: error: text". One write(2) a line, never blocking the
 * caller for long and never failing it: what cannot be written is counted. Control characters in
 * the text are escaped, lines are cut at 1 KiB.
 */
#ifndef REDD_BASE_LOG_H
#define REDD_BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `program` stands in front of each line and must stay valid. Default level: LOG_LEVEL_WARNING. */
void log_init(const char *program, enum log_level level);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines lost because stderr did not take them. */
uint64_t log_lost(void);

/* Copies text so that it can be shown: all but printable ASCII, and backslashes, as \xNN, cut at
 * size (which includes the final NUL). Returns out. */
char *log_escape(char *out, size_t size, const void *text, size_t length);

#define log_error(...)	 log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
