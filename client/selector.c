#include "client/selector.h"

#include <errno.h>

int selector_build(struct redd *r, struct selector *s, const struct redd_label *labels, size_t n)
{
	if (n > LABELS_MAX)
		return client_fail(r, -EINVAL, "a selector has at most %u labels", LABELS_MAX);
	for (size_t i = 0; i < n; i++) {
		s->items[i] = (Redd__V1__Label)REDD__V1__LABEL__INIT;
		s->items[i].key = (char *)labels[i].key;
		s->items[i].value = (char *)labels[i].value;
		s->list[i] = &s->items[i];
	}
	return 0;
}
