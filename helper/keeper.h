/* The role `keeper`: the service's process. What its files share; nobody else includes this. */
#ifndef REDD_HELPER_KEEPER_H
#define REDD_HELPER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/backoff.h"
#include "helper/hold.h"
#include "helper/keeper_config.h"
#include "helper/link.h"

#define KEEPER_START_MS (4 * WATCHDOG_MS) /* until a broker's first beat */
#define KEEPER_NEVER	INT64_MAX	  /* a time that does not come */

/* What a message to a new broker is about to say; then the link is UP for whatever happens. */
enum keeper_phase {
	KEEPER_PHASE_DOWN, /* no broker */
	KEEPER_PHASE_SETUP,
	KEEPER_PHASE_HELD,
	KEEPER_PHASE_RINGS,
	KEEPER_PHASE_RECORDS,
	KEEPER_PHASE_READY,
	KEEPER_PHASE_UP,
};

/* In the upper 8 bits of an epoll event's data; 24 bits of generation and 32 of index follow. */
enum keeper_event {
	KEEPER_EVENT_SIGNAL,
	KEEPER_EVENT_LINK,   /* the broker's */
	KEEPER_EVENT_BROKER, /* its pidfd */
	KEEPER_EVENT_FORKER,
	KEEPER_EVENT_BIRTH,
	KEEPER_EVENT_PROCESS,
};

/* Broker or forker. */
struct kin {
	const char *name;
	pid_t pid; /* 0: does not run */
	int pidfd;
	int link_fd; /* our end of its link */
	int exe_fd;  /* its program, opened at start, so that an upgrade on disk does not matter */
	const char *path;
	struct backoff backoff;
	int64_t start_at_ms;
};

/* One answer that the link did not take; nothing is read from the broker until it is gone. */
struct keeper_answer {
	size_t size; /* 0: none */
	_Alignas(8) uint8_t bytes[sizeof(struct link_group_signal)];
};

struct keeper {
	struct keeper_config config;
	struct hold *hold;
	int epoll_fd, signal_fd;
	struct kin broker, forker;
	/* the broker's link */
	enum keeper_phase phase;
	uint32_t cursor; /* of HELD and RINGS */
	uint32_t incarnation;
	struct keeper_answer answer;
	bool is_congested; /* until the link is writable, or retry_at_ms */
	uint32_t link_events;
	int forker_end_fd;  /* the broker's end of the newest forker link, not told yet; -1 */
	int64_t beat_at_ms; /* the last one */
	/* Silent for so long that only one more HEARTBEAT_MS is left to it, or more if it is not
	 * let run: since then, and what it had run until then, in clock ticks. */
	bool is_suspect;
	int64_t suspect_at_ms;
	uint64_t suspect_ticks;
	bool has_beaten; /* this broker, at least once: it takes signals now */
	bool is_notified;
	/* things to come */
	int stop_signal;     /* somebody wants the service to end; 0: nobody */
	bool stop_is_passed; /* the broker that runs was told */
	int64_t stop_at_ms;  /* since when a broker is waited for that can be told */
	unsigned n_stops_lost;
	int64_t watch_at_ms, sweep_at_ms, retry_at_ms, end_at_ms;
	bool is_ending;
	int status;
	uint64_t deaths, n_strangers;
};

int64_t keeper_now_ms(void);
uint64_t keeper_event_data(enum keeper_event event, uint32_t generation, uint32_t index);

/* Watches fd. 0 or a negative errno: -EPERM for what cannot be watched, -EEXIST for what is. */
int keeper_watch(struct keeper *k, int fd, uint32_t events, uint64_t data);

/* Closing alone does not end a watch: what was sent to the broker is open there as well. */
void keeper_unwatch(struct keeper *k, int fd);

/* --- launch.c: start and end of broker and forker ----------------------------------------------
 */

/* Opens the programs. 0 or a negative errno. */
int launch_init(struct keeper *k);

/* Starts what is due. */
void launch_due(struct keeper *k);

/* One of the two may be dead: if so it is reaped and will be started again. True if pid is (was)
 * one. */
bool launch_look(struct keeper *k, pid_t pid);

void launch_kill(struct kin *kin);
void launch_deinit(struct keeper *k);

/* --- tell.c: keeper to broker ------------------------------------------------------------------
 */

/* Sends what is to be told as far as the link takes it. */
void tell_pump(struct keeper *k);

/* Sends one answer, or keeps it (see is_congested). There must be none kept. Without a link it is
 * forgotten. */
void tell_answer(struct keeper *k, const void *message, size_t size);

/* LINK_FAILED for a spawn that is not held. */
void tell_refused(struct keeper *k, const struct link_spawn_id *id, int error);

/* --- heed.c: broker to keeper ------------------------------------------------------------------
 */

/* Reads and obeys a number of messages, or with `all` all that wait. False when some are left or
 * may not be read now, so that somebody's deposit may still be unread. */
bool heed_link(struct keeper *k, bool all);

/* --- judge.c: births and deaths of processes ---------------------------------------------------
 */

void judge_watch_birth(struct keeper *k, struct hold_slot *s);

/* The birth socket is at its end, or the process is dead: no more records will come. */
void judge_birth(struct keeper *k, struct hold_slot *s);

/* The slot's process may be dead: if so its exit is recorded and then the zombie released. */
void judge_exit(struct keeper *k, struct hold_slot *s);

/* Looks after all dead children that nobody claimed. */
void judge_sweep(struct keeper *k);

/* Tries again what could not be watched. */
void judge_retry(struct keeper *k);

/* --- ending.c ----------------------------------------------------------------------------------
 */

/* A signal that ends a service has come. */
void ending_ask(struct keeper *k, int signal);

/* Passes it on, or ends the service without a broker. */
void ending_pass(struct keeper *k);

/* When ending_pass() is to be called again at the latest. */
int64_t ending_due_ms(const struct keeper *k);

/* The broker is dead; if it had been told, the next one will be. */
void ending_broker_died(struct keeper *k);

/* Kills and reaps all children that are left. Blocks for 2 s at most. */
void ending_finish(void);

/* --- keeper.c ----------------------------------------------------------------------------------
 */

/* Serves until the broker says LINK_BYE. Takes config_fd. The exit status. */
int keeper_main(int config_fd);

#endif
