/* UTF-8 as RFC 3629 has it: no surrogates, nothing above U+10FFFF, no longer form than needed. */
#ifndef REDD_UTF8_H
#define REDD_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_is_valid(const uint8_t *data, size_t size);

#endif
