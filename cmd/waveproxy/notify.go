package main

import (
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The states that systemd is told of a service of Type=notify or notify-reload. Without
// systemd the functions do nothing.

func notifyReady(log *slog.Logger)    { notify(log, daemon.SdNotifyReady) }
func notifyStopping(log *slog.Logger) { notify(log, daemon.SdNotifyStopping) }

// notifyReloading is followed by notifyReady when the reload has ended, well or badly.
// The time tells systemd that this reload is the one that it has asked for.
func notifyReloading(log *slog.Logger) {
	now := daemon.SdNotifyMonotonicUsec()
	if now == "" {
		return // no Linux, so no systemd
	}
	notify(log, daemon.SdNotifyReloading+"\n"+now)
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd, which may end this service after its timeout", "error", err)
	}
}
