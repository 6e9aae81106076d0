package metadata

import (
	"fmt"
	"strconv"
	"strings"
)

// LastKnown is what the file drbd-minor-N.lkbd remembers of a backing device
// with internal metadata: by it, metadata is found again after the device was
// grown while nobody used it.
//
//	SIZE<TAB>PATH              bytes
//	uuid:<TAB>DEVICE_UUID      16 hex digits, upper case
//
// Source: docs/drbd-metadata.md 2.4.
type LastKnown struct {
	Size       int64 // bytes
	Path       string
	DeviceUUID uint64 // 0: not told
}

// String is the content of the file.
func (k LastKnown) String() string {
	text := fmt.Sprintf("%d\t%s\n", k.Size, k.Path)
	if k.DeviceUUID != 0 {
		text += fmt.Sprintf("uuid:\t%016X\n", k.DeviceUUID)
	}
	return text
}

// ParseLastKnown reads the content of the file. The error is an *Error.
func ParseLastKnown(text string) (LastKnown, error) {
	first, rest, _ := strings.Cut(text, "\n")
	number, path, ok := strings.Cut(first, "\t")
	size, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || size <= 0 || size > maxSize || path == "" {
		return LastKnown{}, bad("lkbd file", "remove the file", "%.80q is no size and path", first)
	}
	k := LastKnown{Size: size, Path: path}
	second, _, _ := strings.Cut(rest, "\n")
	if digits, ok := strings.CutPrefix(second, "uuid:\t"); ok {
		if k.DeviceUUID, err = strconv.ParseUint(digits, 16, 64); err != nil {
			return LastKnown{}, bad("lkbd file", "remove the file", "%.80q is no device uuid", digits)
		}
	}
	return k, nil
}
