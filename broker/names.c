/* Checks of what clients send as text: pure, no state. Every sentence says what is wrong and what
 * would be right, and can be shown to a client as it is.
 */
#include "broker/names.h"

#include <limits.h>
#include <string.h>

#include "proto/limits.h"

/* --- characters ------------------------------------------------------------------------------ */

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Letters, digits and those of `others`. */
static bool all_of(const uint8_t *text, size_t size, const char *others)
{
	size_t i;

	for (i = 0; i < size; i++)
		if (!is_letter(text[i]) && !is_digit(text[i]) &&
		    (!text[i] || !strchr(others, text[i])))
			return false;
	return true;
}

static bool has_nul(const void *text, size_t size)
{
	return size && memchr(text, '\0', size);
}

/* --- UTF-8 ----------------------------------------------------------------------------------- */

/* Size of the character that begins at text, 0 when it is not one. The number is in *ret. */
static size_t utf8_decode(const uint8_t *text, size_t size, uint32_t *ret)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n, i;

	if (text[0] < 0x80) {
		*ret = text[0];
		return 1;
	}
	n = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	if (text[0] < 0xc2 || text[0] > 0xf4 || n > size)
		return 0;
	*ret = text[0] & (0x7fu >> n);
	for (i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		*ret = *ret << 6 | (text[i] & 0x3f);
	}
	if (*ret < smallest[n] || *ret > 0x10ffff || (*ret >= 0xd800 && *ret <= 0xdfff))
		return 0;
	return n;
}

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* Reads as many characters as are right; true when that was all. */
static bool utf8_walk(const uint8_t *text, size_t size, bool refuse_controls)
{
	uint32_t c = 0;
	size_t n;

	for (; size; text += n, size -= n) {
		n = utf8_decode(text, size, &c);
		if (!n || (refuse_controls && is_control(c)))
			return false;
	}
	return true;
}

bool names_is_utf8(const void *text, size_t size)
{
	return utf8_walk(text, size, false);
}

/* --- checks ---------------------------------------------------------------------------------- */

_Static_assert(NAME_MAX_SIZE == 128 && LABEL_KEY_MAX == 63 && LABEL_VALUE_MAX == 255 &&
		       TOKEN_MAX == 64 && CLIENT_NAME_MAX == 64,
	       "the sentences below say these numbers");

const char *names_check_port(const void *text, size_t size)
{
	const uint8_t *bytes = text;

	if (size == 0)
		return "the port's name is empty: leave it out or give 1 to 128 characters";
	if (size > NAME_MAX_SIZE)
		return "the port's name is longer than 128 characters";
	if (is_digit(bytes[0]))
		return "the port's name starts with a digit, as only port ids do";
	if (!all_of(bytes, size, "._:@/-"))
		return "the port's name may hold only letters, digits and . _ : @ / -";
	return NULL;
}

const char *names_check_label_key(const void *text, size_t size)
{
	if (size == 0)
		return "a label's key is empty: give 1 to 63 characters";
	if (size > LABEL_KEY_MAX)
		return "a label's key is longer than 63 characters";
	if (!all_of(text, size, "._/-"))
		return "a label's key may hold only letters, digits and . _ / -";
	return NULL;
}

const char *names_check_label_value(const void *text, size_t size)
{
	if (size > LABEL_VALUE_MAX)
		return "a label's value is longer than 255 bytes";
	if (!utf8_walk(text, size, true))
		return "a label's value must be UTF-8 without control characters";
	return NULL;
}

const char *names_check_token(const void *text, size_t size)
{
	(void)text;
	if (size == 0)
		return "the token is empty: leave it out or give 1 to 64 bytes";
	if (size > TOKEN_MAX)
		return "the token is longer than 64 bytes";
	return NULL;
}

const char *names_check_client(const void *text, size_t size)
{
	if (size > CLIENT_NAME_MAX)
		return "the client's name is longer than 64 bytes";
	if (has_nul(text, size))
		return "the client's name holds a NUL byte";
	return NULL;
}

const char *names_check_program(const void *text, size_t size)
{
	if (size == 0)
		return "the program is empty: give a path or a name to search for";
	if (size >= PATH_MAX)
		return "the program's path is longer than the system takes (4095 bytes)";
	if (has_nul(text, size))
		return "the program holds a NUL byte";
	return NULL;
}

const char *names_check_path(const void *text, size_t size)
{
	if (size == 0)
		return "the path is empty";
	if (size >= PATH_MAX)
		return "the path is longer than the system takes (4095 bytes)";
	if (has_nul(text, size))
		return "the path holds a NUL byte";
	return NULL;
}

const char *names_check_absolute(const void *text, size_t size)
{
	const char *wrong = names_check_path(text, size);

	if (wrong)
		return wrong;
	return *(const char *)text == '/' ? NULL : "the path must be absolute: begin it with /";
}

const char *names_check_argument(const void *text, size_t size)
{
	return has_nul(text, size) ? "an argument holds a NUL byte" : NULL;
}

const char *names_check_variable(const void *text, size_t size)
{
	const char *equals = size ? memchr(text, '=', size) : NULL;

	if (!equals)
		return "an environment variable has no '=': give NAME=VALUE";
	if (equals == text)
		return "an environment variable has no name in front of its '='";
	if (has_nul(text, size))
		return "an environment variable holds a NUL byte";
	return NULL;
}

const char *names_check_variable_name(const void *text, size_t size)
{
	if (size == 0)
		return "the name of an environment variable is empty";
	if (memchr(text, '=', size))
		return "the name of an environment variable holds a '='";
	if (has_nul(text, size))
		return "the name of an environment variable holds a NUL byte";
	return NULL;
}
