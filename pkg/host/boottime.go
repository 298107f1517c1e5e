package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

var errNoBootTime = errors.New("proc/stat has no btime")

// BootTime is when the running kernel was booted, in whole seconds, by the clock of the wall as it is set now: a step of
// the clock moves it.
func (h Host) BootTime() (time.Time, error) {
	text, err := os.ReadFile(h.Path("proc/stat"))
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the time of boot, %w", err)
	}
	for line := range bytes.Lines(text) {
		value, found := bytes.CutPrefix(line, []byte("btime "))
		if !found {
			continue
		}
		seconds, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("reading the time of boot, %w", err)
		}
		return time.Unix(seconds, 0), nil
	}
	return time.Time{}, fmt.Errorf("reading the time of boot, %w", errNoBootTime)
}
