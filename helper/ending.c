/* The end of the service, from outside (a signal) to the last child.
 *
 * A signal is a request that stays: it is passed to the broker once that takes signals, and should
 * the broker die over it, to the next one. It is given up when STOPS_LOST_MAX brokers died of it,
 * when no broker is there to take it for WATCHDOG_MS, or when brokers die again and again by
 * themselves: then the keeper ends the service alone, with status 1.
 *
 * At the very end every child that is left is killed and reaped, until there is none or ENDING_MS
 * are up: what hung before its exec, and descendants that came to the subreaper when their parents
 * were killed. They are our own and not reaped, so their numbers are theirs.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "helper/keeper.h"
#include "helper/proc.h"
#include "helper/reap.h"
#include "proto/base/log.h"

#define STOPS_LOST_MAX 3
#define ENDING_MS      2000
#define LOOK_MS	       10

void ending_ask(struct keeper *k, int signal)
{
	if (!k->stop_signal)
		k->stop_at_ms = keeper_now_ms();
	k->stop_signal = signal;
	k->stop_is_passed = false;
}

void ending_broker_died(struct keeper *k)
{
	if (!k->stop_is_passed)
		return;
	k->stop_is_passed = false;
	k->stop_at_ms = keeper_now_ms();
	k->n_stops_lost++;
}

static void end_without_broker(struct keeper *k)
{
	log_error("ended without a broker: what still runs is killed");
	k->is_ending = true;
	k->status = 1;
	launch_kill(&k->broker);
	launch_kill(&k->forker);
}

static bool is_hopeless(const struct keeper *k)
{
	if (k->n_stops_lost >= STOPS_LOST_MAX)
		return true;
	if (k->broker.pid && k->has_beaten)
		return false;
	return k->broker.backoff.is_degraded || keeper_now_ms() >= k->stop_at_ms + WATCHDOG_MS;
}

/* A broker takes signals from its first beat on. */
void ending_pass(struct keeper *k)
{
	if (!k->stop_signal || k->stop_is_passed || k->is_ending)
		return;
	if (is_hopeless(k)) {
		end_without_broker(k);
	} else if (k->broker.pid && k->has_beaten) {
		kill(k->broker.pid, k->stop_signal);
		k->stop_is_passed = true;
	}
}

int64_t ending_due_ms(const struct keeper *k)
{
	if (!k->stop_signal || k->stop_is_passed || k->is_ending)
		return KEEPER_NEVER;
	return k->stop_at_ms + WATCHDOG_MS;
}

/* --- the last children -------------------------------------------------------------------------
 */

static bool kill_if_ours(pid_t pid, void *context)
{
	struct proc_stat stat;

	if (proc_stat_read(pid, &stat) == 0 && stat.parent == *(const pid_t *)context)
		kill(pid, SIGKILL);
	return true;
}

/* False when there is no child any more. */
static bool release_dead(void)
{
	pid_t pid;
	int r;

	while ((r = reap_look_any(&pid)) == 0)
		reap_release(pid);
	return r == REAP_E_ALIVE;
}

void ending_finish(void)
{
	int64_t until = keeper_now_ms() + ENDING_MS;
	pid_t self = getpid();

	while (release_dead() && keeper_now_ms() < until) {
		proc_each(kill_if_ours, &self);
		poll(NULL, 0, LOOK_MS);
	}
}
