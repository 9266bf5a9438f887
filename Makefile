# redd: see `make help`.
#
# Everything that is built goes to build/ (the default flavour) or build/FLAVOUR/: asan, clang,
# valgrind, coverage. Sources are found by wildcard: a new file in proto/, broker/, helper/ or
# client/ is in its program or library at once, a tests/*/test_*.c is a suite of its own.

FLAVOUR ?= gcc
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec/redd
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
SHAREDIR ?= $(PREFIX)/share/redd
MANDIR ?= $(PREFIX)/share/man
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 30
VERSION = $(shell sed -n 's/^\#define REDD_VERSION.*"\(.*\)"/\1/p' client/redd.h)

# Debian packages: to build and for the demo; and what measurements and tests need besides.
PACKAGES := gcc libc6-dev libprotobuf-c-dev protobuf-c-compiler libuv1-dev libxxhash-dev \
	libinih-dev scdoc python3 python3-protobuf protobuf-compiler
PACKAGES_BENCH := $(PACKAGES) libpcre2-dev
PACKAGES_CHECK := $(PACKAGES_BENCH) libcriterion-dev clang clang-format valgrind strace perl procps \
	pkg-config rsync git vim-tiny

.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDEXPANSION:
MAKEFLAGS += --no-builtin-rules --no-print-directory
# V=1 shows the commands themselves.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

# --- flavours ------------------------------------------------------------------------------------

GEN := build/gen
BUILD := $(if $(filter gcc,$(FLAVOUR)),build,build/$(FLAVOUR))
O := $(BUILD)/obj

CC_gcc := gcc
CC_clang := clang
CC := $(or $(CC_$(FLAVOUR)),gcc)
AR := ar
OBJCOPY := objcopy

# $(call known,FLAG): the flag where this compiler knows it.
known = $(shell $(CC) $(1) -Werror -x c -S -o /dev/null /dev/null >/dev/null 2>&1 && echo '$(1)')

HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection \
	$(call known,-fcf-protection) $(call known,-ftrivial-auto-var-init=zero)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
TUNE_gcc := -O2 -g $(HARDEN)
TUNE_clang := -O2 -g $(HARDEN)
TUNE_asan := -O1 -g -fno-omit-frame-pointer
TUNE_valgrind := -O1 -g -fno-omit-frame-pointer
LDFLAGS_valgrind = -Wl,-rpath,$(CURDIR)/$(dir $(LIGHT_valgrind))
TUNE_coverage := -O0 -g --coverage
TUNE := $(TUNE_$(FLAVOUR))
ifeq ($(TUNE),)
$(error FLAVOUR=$(FLAVOUR) is not known: gcc, clang, asan, valgrind or coverage)
endif
ifeq ($(FLAVOUR),asan)
SANITIZE_CFLAGS := $(SANITIZE)
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
	-Wimplicit-fallthrough -Wconversion -Wno-sign-conversion \
	$(call known,-Wno-string-conversion) $(call known,-Wno-format-truncation)
WERROR ?= -Werror
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -I$(GEN) -fPIC $(TUNE) \
	$(CFLAGS)
ALL_CFLAGS = $(BASE_CFLAGS) $(WARN) $(WERROR) $(SANITIZE_CFLAGS)
ALL_LDFLAGS = $(filter --coverage,$(TUNE)) $(SANITIZE_CFLAGS) -pie -Wl,-z,relro,-z,now \
	-Wl,-z,noexecstack -Wl,--as-needed $(LDFLAGS_$(FLAVOUR)) $(LDFLAGS)
# Children of the tests are the same in every flavour: plain and static, so that starting them
# costs little and no sanitizer or runtime of theirs stands between us and what is tested.
PROG_CFLAGS := -std=gnu11 -D_GNU_SOURCE -I. -O2 -g $(filter-out -Wconversion,$(WARN)) $(WERROR) -static

# --- what there is -------------------------------------------------------------------------------

PROTO_SRC := $(wildcard proto/*.c proto/base/*.c)
BROKER_SRC := $(filter-out broker/main.c,$(wildcard broker/*.c))
HELPER_SRC := $(filter-out helper/main.c,$(wildcard helper/*.c))
CLIENT_SRC := $(wildcard client/*.c)
CLI_SRC := $(wildcard client/cli/*.c)
# Linked into every suite; the wrappers only into those that include their header.
HOOKS_SRC := tests/lib/hooks.c
TESTLIB_SRC := $(filter-out $(HOOKS_SRC) tests/lib/countdown.c,$(wildcard tests/lib/*.c))
UNIT_SRC := $(wildcard tests/unit/test_*.c)
# valgrind 3.19 has no pidfd_open(2) and pidfd_send_signal(2), which is what these are about; and a
# program under it cannot be traced.
NOT_VALGRIND := tests/integration/test_signal.c tests/integration/test_signal_again.c
INTEGRATION_SRC := $(filter-out $(if $(filter valgrind,$(FLAVOUR)),$(NOT_VALGRIND)), \
	$(wildcard tests/integration/test_*.c))
# Suites in Python and shell; they are for the flavours without valgrind.
SCRIPTS := $(if $(filter valgrind,$(FLAVOUR)),,$(wildcard tests/*/test_*.py tests/*/test_*.sh))
PROG_SRC := $(wildcard tests/progs/*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
EXAMPLE_SRC := $(wildcard examples/*.c)
PRELOAD_SRC := $(wildcard tests/fault/*.c)
MAN_SRC := $(wildcard broker/*.scd client/*.scd client/cli/*.scd)
FORMAT_SRC := $(shell find proto broker helper client tests examples -name '*.[ch]')

obj = $(patsubst %.c,$(O)/%.o,$(1))
GEN_C := $(GEN)/proto/redd.pb-c.c
GEN_H := $(GEN)/proto/redd.pb-c.h
GEN_O := $(O)/gen/redd.pb-c.o
# Only these are told where things are installed, so another PREFIX rebuilds no more than them.
PATH_OBJ := $(call obj,$(shell grep -lE 'REDD_(BINDIR|LIBEXECDIR)' \
	$(wildcard broker/*.c client/*.c client/cli/*.c helper/*.c) /dev/null))

PROGRAMS := $(BUILD)/redd $(BUILD)/redd-broker $(BUILD)/redd-helper
LIBRARIES := $(BUILD)/libredd.a $(BUILD)/libredd.so
ROOMS := $(BUILD)/libproto.a $(BUILD)/libbroker.a $(BUILD)/libhelper.a $(BUILD)/libclient.a
PROGS := $(PROG_SRC:%.c=$(BUILD)/%)
UNIT := $(UNIT_SRC:%.c=$(BUILD)/%)
INTEGRATION := $(INTEGRATION_SRC:%.c=$(BUILD)/%)
BENCH := $(BENCH_SRC:%.c=$(BUILD)/%)
EXAMPLES := $(EXAMPLE_SRC:%.c=$(BUILD)/%)
PRELOADS := $(PRELOAD_SRC:%.c=$(BUILD)/%.so)
FUZZERS := $(FUZZ_SRC:%.c=build/fuzz/%)
LIGHT_valgrind := $(BUILD)/light/made
MANUALS := $(patsubst %.scd,$(BUILD)/man/%,$(notdir $(MAN_SRC)))

LIBS_proto := -lprotobuf-c -lxxhash
LIBS_broker := -luv -linih $(LIBS_proto)

# --- targets -------------------------------------------------------------------------------------

.PHONY: all help deps deps-build deps-bench demo check layers format format-check bench bench-run fuzz \
	tests test-objects unit integration progs examples man install uninstall coverage clean FORCE

all: $(PROGRAMS) $(LIBRARIES) $(BUILD)/redd.pc

help:
	@echo 'make              programs and libraries in build/ (FLAVOUR=asan, clang, valgrind)'
	@echo 'make demo         install what is missing, build, show the main job'
	@echo 'make check        install what is missing, build every flavour, run every test'
	@echo 'make unit         the unit suites; make integration: the others (FLAVOUR=...)'
	@echo 'make bench        figures beside the raw limits of this machine'
	@echo 'make fuzz         each fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make layers       who may include whom; make format, make format-check'
	@echo 'make install      PREFIX=$(PREFIX) DESTDIR=$(DESTDIR); make uninstall'
	@echo 'make coverage     which lines the tests reach; make clean'

deps-build:
	@tests/lib/deps.sh $(PACKAGES)

deps-bench:
	@tests/lib/deps.sh $(PACKAGES_BENCH)

deps:
	@tests/lib/deps.sh $(PACKAGES_CHECK)

# What was just installed may change how this file reads, hence the second make.
demo: deps-build
	@$(MAKE) all examples
	@examples/demo.sh build

check: deps
	@tests/lib/check.sh

layers:
	@tests/lib/layers.sh

format:
	@clang-format -i $(FORMAT_SRC)

format-check:
	@clang-format --dry-run -Werror $(FORMAT_SRC)

tests: $(UNIT) $(INTEGRATION) $(PROGS) $(EXAMPLES) $(PRELOADS)

# Compiled, which is what warns, and not linked.
test-objects: $(call obj,$(UNIT_SRC) $(INTEGRATION_SRC) $(wildcard tests/lib/*.c) $(BENCH_SRC) \
	$(EXAMPLE_SRC))

unit: all progs $(UNIT) $(LIGHT_$(FLAVOUR))
	@tests/lib/suites.sh $(FLAVOUR) $(BUILD) $(UNIT)

integration: all progs examples $(PRELOADS) $(INTEGRATION) $(LIGHT_$(FLAVOUR))
	@tests/lib/suites.sh $(FLAVOUR) $(BUILD) $(INTEGRATION) $(SCRIPTS)

progs: $(PROGS)

examples: $(EXAMPLES)

bench: deps-bench
	@$(MAKE) bench-run

bench-run: all progs $(BENCH)
	@tests/lib/bench.sh $(BUILD) $(BENCH)

fuzz: $(FUZZERS)
	@tests/lib/fuzz.sh $(FUZZ_SECONDS) $(FUZZERS)

coverage:
	@$(MAKE) FLAVOUR=coverage all tests
	@tests/lib/coverage.sh build/coverage

clean:
	rm -rf build

# --- compiling -----------------------------------------------------------------------------------

$(GEN_C): proto/redd.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(GEN) $<

$(GEN_H): $(GEN_C)
	@test -f $@ || { rm -f $(GEN_C); $(MAKE) $(GEN_C); }

# Changes only when the flags do, so that other flags rebuild what they are for.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(subst ','\'',$(ALL_CFLAGS) $(ALL_LDFLAGS))' | cmp -s - $@ || \
		echo '$(CC) $(subst ','\'',$(ALL_CFLAGS) $(ALL_LDFLAGS))' >$@

$(BUILD)/paths: FORCE
	@mkdir -p $(@D)
	@echo '$(BINDIR) $(LIBEXECDIR)' | cmp -s - $@ || echo '$(BINDIR) $(LIBEXECDIR)' >$@

$(PATH_OBJ): $(BUILD)/paths
$(PATH_OBJ): ALL_CFLAGS += -DREDD_BINDIR='"$(BINDIR)"' -DREDD_LIBEXECDIR='"$(LIBEXECDIR)"'

$(O)/tests/lib/places.o: ALL_CFLAGS += -DREDD_TEST_BUILD='"$(CURDIR)/$(BUILD)"'

# Examples include the public header as a user does.
$(call obj,$(EXAMPLE_SRC)): ALL_CFLAGS += -Iclient

# What runs between clone and exec shares its parent's memory: no sanitizer runtime there.
$(O)/helper/child.o: SANITIZE_CFLAGS :=

$(O)/%.o: %.c $(BUILD)/flags | $(GEN_H)
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(GEN_O): $(GEN_C) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(BASE_CFLAGS) $(SANITIZE_CFLAGS) -w -MMD -MP -c -o $@ $<

# --- libraries -----------------------------------------------------------------------------------

$(BUILD)/libproto.a: $(call obj,$(PROTO_SRC)) $(GEN_O)
$(BUILD)/libbroker.a: $(call obj,$(BROKER_SRC))
$(BUILD)/libhelper.a: $(call obj,$(HELPER_SRC))
$(BUILD)/libclient.a: $(call obj,$(CLIENT_SRC))
$(BUILD)/libtests.a: $(call obj,$(TESTLIB_SRC))

$(ROOMS) $(BUILD)/libtests.a:
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

# The public library shows redd_* and nothing else, so that it clashes with nobody.
$(O)/libredd.o: $(call obj,$(CLIENT_SRC) $(PROTO_SRC)) $(GEN_O)
	$(call say,LD,$@)
	$(Q)$(CC) -r -nostdlib -o $@ $^
	$(Q)$(OBJCOPY) --wildcard --keep-global-symbol='redd_[a-z]*' $@

$(BUILD)/libredd.a: $(O)/libredd.o
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

$(BUILD)/libredd.map: Makefile
	@mkdir -p $(@D)
	@echo '{ global: redd_[a-z]*; local: *; };' >$@

$(BUILD)/libredd.so.0: $(call obj,$(CLIENT_SRC) $(PROTO_SRC)) $(GEN_O) $(BUILD)/libredd.map
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(filter-out -pie,$(ALL_LDFLAGS)) -Wl,-soname,libredd.so.0 \
		-Wl,--version-script=$(BUILD)/libredd.map -o $@ $(filter %.o,$^) $(LIBS_proto)

$(BUILD)/libredd.so: $(BUILD)/libredd.so.0
	$(Q)ln -sf $(<F) $@

$(BUILD)/redd.pc: client/redd.pc.in $(BUILD)/paths
	@mkdir -p $(@D)
	$(call say,SED,$@)
	$(Q)sed -e 's,@PREFIX@,$(PREFIX),g' -e 's,@LIBDIR@,$(LIBDIR),g' \
		-e 's,@INCLUDEDIR@,$(INCLUDEDIR),g' -e 's,@VERSION@,$(VERSION),g' $< >$@

# --- programs ------------------------------------------------------------------------------------

LINK = $(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^)

# As the shell of a make, or under prove, redd itself is started as often as what it runs: static, it
# takes less to start than a dynamic /bin/true. Sanitizers and valgrind need it dynamic.
REDD_LDFLAGS = $(if $(filter gcc clang,$(FLAVOUR)),$(patsubst -pie,-static-pie,$(ALL_LDFLAGS)),$(ALL_LDFLAGS))
$(BUILD)/redd: $(call obj,$(CLI_SRC)) $(BUILD)/libredd.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(REDD_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS_proto)

$(BUILD)/redd-broker: $(O)/broker/main.o $(BUILD)/libbroker.a $(BUILD)/libproto.a
	$(call say,LINK,$@)
	$(Q)$(LINK) $(LIBS_broker)

# The helper is to stay small enough to be read: what it may link is this list.
HELPER_MAY := $(wildcard proto/base/*.c) proto/fdpass.c
$(BUILD)/redd-helper: $(O)/helper/main.o $(call obj,$(HELPER_SRC) $(HELPER_MAY))
	$(call say,LINK,$@)
	$(Q)$(LINK)

# --- tests ---------------------------------------------------------------------------------------

# A suite links the rooms whose headers it includes, so that one broken room breaks its suites only.
rooms_of = $(shell sed -n 's,^\#include "\(broker\|helper\|client\)/.*,$(BUILD)/lib\1.a,p' $(1) | \
	sort -u)

# A suite that includes countdown.h can make these fail.
WRAPPED := malloc calloc realloc strdup strndup mmap ftruncate memfd_create socket socketpair accept4 \
	pipe2 eventfd read recvmsg write sendmsg splice
countdown_of = $(if $(shell grep -l countdown.h $(1)),$(O)/tests/lib/countdown.o)
WRAP = $(if $(filter %/countdown.o,$^),$(addprefix -Wl$(comma)--wrap=,$(WRAPPED)))
comma := ,

$(UNIT): $(BUILD)/tests/unit/%: $(O)/tests/unit/%.o $(call obj,$(HOOKS_SRC)) \
		$$(call countdown_of,tests/unit/$$*.c) $(BUILD)/libtests.a \
		$$(call rooms_of,tests/unit/$$*.c) $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(LINK) $(WRAP) -lcriterion $(LIBS_broker) -lpcre2-8

$(INTEGRATION): $(BUILD)/tests/integration/%: $(O)/tests/integration/%.o $(call obj,$(HOOKS_SRC)) \
		$(BUILD)/libtests.a $(BUILD)/libredd.a $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(LINK) -lcriterion $(LIBS_broker)

# What valgrind is given, as most of the time it reads symbols: for each program that it starts.
#
# criterion loads libgit2, to show how two texts differ, and that ssl and kerberos; it starts anew
# for every test, and under valgrind this is half of the time of a unit suite. So there it gets a
# libgit2 of its own, in which the functions that it calls do nothing. (cr_assert(eq(str, ...)), which
# nobody uses here, would crash where it fails.)
#
# The C library's own symbols, without which valgrind is not installed, are 40% of a start. It finds
# them by the build id, which a copy need not have.
$(LIGHT_valgrind): $(firstword $(UNIT))
	@mkdir -p $(@D)
	$(Q)ldd $< | sed -n 's/.*\(libgit2\.so[.0-9]*\) => .*/\1/p' >$@.so
	$(Q)nm -D --undefined-only $$(ldd $< | awk '/libcriterion/ { print $$3 }') | \
		sed -n 's/.* \(git_[a-z0-9_]*\)$$/int \1(void); int \1(void) { return 0; }/p' >$@.c
	$(Q)for so in $$(cat $@.so); do \
		gcc -shared -fPIC -Wl,-soname,$$so -o $(@D)/$$so $@.c || exit 1; done
	$(Q)$(OBJCOPY) -R .note.gnu.build-id -R .gnu_debuglink \
		$$(gcc -print-file-name=libc.so.6) $(@D)/libc.so.6
	@touch $@

$(PROGS): $(BUILD)/tests/progs/%: tests/progs/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)gcc $(PROG_CFLAGS) $(if $(filter tiny,$*),-nostdlib -fno-stack-protector) -MMD -MP \
		-MF $@.d -o $@ $<

$(BENCH): $(BUILD)/tests/bench/%: $(O)/tests/bench/%.o $(BUILD)/libtests.a $(BUILD)/libredd.a \
		$$(call rooms_of,tests/bench/$$*.c) $(BUILD)/libproto.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(LINK) $(LIBS_broker) -lpcre2-8

$(EXAMPLES): $(BUILD)/examples/%: $(O)/examples/%.o $(BUILD)/libredd.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(LINK) $(LIBS_proto)

$(PRELOADS): $(BUILD)/%.so: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)gcc -std=gnu11 -D_GNU_SOURCE -I. -O2 -g $(WARN) $(WERROR) -fPIC -shared -o $@ $< -ldl

# Fuzzers are always clang's, with its own copy of what they reach.
FUZZ_CFLAGS := -std=gnu11 -D_GNU_SOURCE -I. -I$(GEN) -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=all $(filter-out -Wno-format-truncation,$(WARN))
# Of tests/lib, what does without criterion.
fuzz_lib_of = $(if $(shell grep -l lib/parts.h $(1)),tests/lib/parts.c)
$(FUZZERS): build/fuzz/%: %.c $(PROTO_SRC) $(BROKER_SRC) $(HELPER_SRC) tests/lib/parts.c | $(GEN_H)
	@mkdir -p $(@D)/obj-$(*F)
	$(call say,CLANG,$@)
	$(Q)cd $(@D)/obj-$(*F) && clang $(subst -I,-I$(CURDIR)/,$(FUZZ_CFLAGS)) -c \
		$(addprefix $(CURDIR)/,$(filter-out %/main.c,$(PROTO_SRC) $(GEN_C) \
		$(if $(findstring broker,$(call rooms_of,$<)),$(BROKER_SRC)) \
		$(if $(findstring helper,$(call rooms_of,$<)),$(HELPER_SRC)) $(call fuzz_lib_of,$<)) $<)
	$(Q)clang $(FUZZ_CFLAGS) -o $@ $(@D)/obj-$(*F)/*.o $(LIBS_broker)

# --- installing ----------------------------------------------------------------------------------

man: $(MANUALS)

$(MANUALS): $(BUILD)/man/%: $$(wildcard $$(addsuffix $$*.scd,$(sort $(dir $(MAN_SRC)))))
	@mkdir -p $(@D)
	$(call say,SCDOC,$@)
	$(Q)scdoc <$< >$@

D := $(DESTDIR)
man_dir = $(D)$(MANDIR)/man$(subst .,,$(suffix $(1)))

install: all man
	install -d $(D)$(BINDIR) $(D)$(LIBEXECDIR) $(D)$(LIBDIR)/pkgconfig $(D)$(INCLUDEDIR) \
		$(D)$(SHAREDIR)
	install -m 755 $(BUILD)/redd $(BUILD)/redd-broker $(D)$(BINDIR)
	install -m 755 $(BUILD)/redd-helper $(D)$(LIBEXECDIR)
	install -m 644 $(BUILD)/libredd.a $(D)$(LIBDIR)
	install -m 755 $(BUILD)/libredd.so.0 $(D)$(LIBDIR)
	ln -sf libredd.so.0 $(D)$(LIBDIR)/libredd.so
	install -m 644 $(BUILD)/redd.pc $(D)$(LIBDIR)/pkgconfig
	install -m 644 client/redd.h $(D)$(INCLUDEDIR)
	install -m 644 proto/redd.proto proto/PROTOCOL.md $(D)$(SHAREDIR)
	$(foreach m,$(MANUALS),install -D -m 644 $(m) $(call man_dir,$(m))/$(notdir $(m)) &&) true

uninstall:
	rm -f $(D)$(BINDIR)/redd $(D)$(BINDIR)/redd-broker $(D)$(LIBEXECDIR)/redd-helper
	rm -f $(addprefix $(D)$(LIBDIR)/,libredd.a libredd.so libredd.so.0 pkgconfig/redd.pc)
	rm -f $(D)$(INCLUDEDIR)/redd.h $(D)$(SHAREDIR)/redd.proto $(D)$(SHAREDIR)/PROTOCOL.md
	rm -f $(foreach m,$(MANUALS),$(call man_dir,$(m))/$(notdir $(m)))
	-rmdir $(D)$(LIBEXECDIR) $(D)$(SHAREDIR) 2>/dev/null

-include $(shell find $(O) $(BUILD)/tests -name '*.d' 2>/dev/null)
