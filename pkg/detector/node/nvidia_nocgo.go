//go:build !cgo

package node

import (
	"errors"

	"github.com/autorepair-sh/karpenter-autorepair/pkg/host"
)

// nvidiaAbsent stands where the program was built without cgo, which the driver's library needs.
type nvidiaAbsent struct{}

func newNvidiaDriver(host.Host, NvidiaOptions) nvidiaDriver {
	return nvidiaAbsent{}
}

func (nvidiaAbsent) read() (nvidiaReading, error) {
	return nvidiaReading{}, errors.New("for which this program was built without cgo")
}
