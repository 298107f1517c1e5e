package chaos

import (
	"sync"
	"testing"
	"time"
)

// everyOther answers every write's first, third... attempt by do, and passes the others on. Attempts are counted by
// what is written, so that no write is hindered for ever, whatever else is written meanwhile.
func everyOther(do func() fate) func(write) fate {
	var mu sync.Mutex
	attempts := map[string]int{}
	return func(w write) fate {
		mu.Lock()
		attempts[w.What]++
		odd := attempts[w.What]%2 == 1
		mu.Unlock()
		if odd {
			return do()
		}
		return pass
	}
}

func always(f fate) func() fate { return func() fate { return f } }

func late(f fate) func() fate {
	return func() fate {
		time.Sleep(time.Second)
		return f
	}
}

var hindrances = map[string]func() hooks{
	"every write meets a conflict first":           func() hooks { return hooks{before: everyOther(always(conflict))} },
	"every write meets 429 with Retry-After first": func() hooks { return hooks{before: everyOther(always(tooMany))} },
	"every write meets 500 first":                  func() hooks { return hooks{before: everyOther(always(broken))} },
	"every write is lost first":                    func() hooks { return hooks{before: everyOther(always(cut))} },
	"the answer to every write is lost first":      func() hooks { return hooks{after: everyOther(always(cut))} },
	"every write hangs for a second and is lost":   func() hooks { return hooks{before: everyOther(late(cut))} },
	"every answer hangs for a second and is lost":  func() hooks { return hooks{after: everyOther(late(cut))} },
	"every write takes a second":                   func() hooks { return hooks{after: everyOther(late(pass))} },
}

func TestWritesAreHindered(t *testing.T) {
	s := begin(t, "hindered", 3)
	s.controller()
	for name, hinder := range hindrances {
		t.Run(name, func(t *testing.T) {
			s := s.under(t)
			s.proxy.reset(hinder())
			defer s.proxy.reset(hooks{})
			s.ends(s.breaks(s.pools...))
		})
	}
}

func TestConnectionsAreCutAllTheTime(t *testing.T) {
	s := begin(t, "cut", 2)
	s.controller()
	claims := s.breaks(s.pools...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(500 * time.Millisecond):
				s.proxy.server.CloseClientConnections()
			case <-stop:
				return
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	s.ends(claims)
}
