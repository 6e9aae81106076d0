package engine

import (
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// Instant is a point in time as the distance from an arbitrary fixed origin of
// a monotonic clock.
type Instant = time.Duration

// Never is the deadline of an engine that waits for nothing.
const Never Instant = 1<<63 - 1

// Socket names one of the two TCP connections of a DRBD connection.
type Socket uint8

const (
	DataSock Socket = iota // requests, blocks, states
	MetaSock               // acknowledgements and pings
)

func (s Socket) String() string { return [...]string{"data", "meta"}[s] }

// Op is what an application request asks for.
type Op uint8

const (
	OpRead Op = iota
	OpWrite
	OpFlush
	OpDiscard     // afterwards both disks read zeroes there; space may be freed
	OpWriteZeroes // afterwards both disks read zeroes there; NoUnmap keeps the space
)

func (o Op) String() string {
	return [...]string{"read", "write", "flush", "discard", "write-zeroes"}[o]
}

// A Request is one I/O of the application. The owner fills the exported fields
// and hands it over with [Engine.Submit]; it belongs to the engine, Data
// included, until it comes back in [Output].Done.
type Request struct {
	Vol     int    // volume number
	Op      Op     //
	Off     int64  // bytes, multiple of 512
	Len     int64  // bytes, multiple of 512; 0 for a flush
	FUA     bool   // durable before it is done; a zero-out takes all earlier requests along, as a FLUSH does
	NoUnmap bool   // OpWriteZeroes: do not free the space
	Data    []byte // Len bytes, page aligned: source of a write, destination of a read
	Handle  uint64 // the owner's

	Err Errno // result, set when the request comes back: 0 or an errno

	// Held is not 0 when a disk that was given up may still use Data. The owner keeps that memory out of use until
	// the DiskDone of this I/O, and gives the request other memory before it is used again. It is 0 again after that DiskDone.
	Held Token

	write *write // the engine's
	lacks lacking
}

// lacking says which disks lack what a request is answered for with success.
type lacking uint8

const (
	peerLacks lacking = 1 << iota // or may: it is answered because of the own disk, and of nothing else
	ownLacks                      // it was given it, and failed: it is answered because of the peer's, see owed
	ownCaches                     // or it had it in its cache when it was lost, perhaps
)

// DiskOp is what a disk of the resource is asked for.
type DiskOp uint8

const (
	DiskRead DiskOp = iota
	DiskWrite
	DiskFlush // all completed writes become durable
	DiskZero  // the range reads zeroes afterwards; Unmap allows to free the space. The owner writes zeroes where nothing else works
)

func (o DiskOp) String() string { return [...]string{"read", "write", "flush", "zero"}[o] }

// A DiskIO is one I/O on the backing store (Meta false) or on the metadata
// device (Meta true) of a volume. Each is answered by one [Engine.DiskDone] with its Token.
// There is no order between the I/Os of an Output: what must be ordered is issued later.
type DiskIO struct {
	Token Token
	Vol   int
	Op    DiskOp
	Meta  bool   // Off counts from the start of the metadata device
	FUA   bool   // a write that is durable when it is done
	Unmap bool   // DiskZero may free the space
	Off   int64  // bytes; aligned to 512, metadata to 4096
	Len   int64  // bytes; len(Data) for reads and writes
	Data  []byte // page aligned memory, untouched by others until DiskDone
}

// Token ties a [DiskIO] to its completion; opaque to the owner.
type Token uint64

// A Segment is a piece of a send: Head was encoded by the engine, Body is a
// payload (nil for none). Both stay untouched until [Engine.Sent].
type Segment struct {
	Head, Body []byte
}

// Output is what is to be done. It is the engine's memory: valid until the next
// call of one of its methods.
type Output struct {
	Disk   []DiskIO   // to be started
	Done   []*Request // to be answered to the application
	Events []Event    // rare: connection orders, device orders, replies, notices
}

// Event is one of the types below.
type Event interface{ event() }

type (
	// OpenConnection asks the owner to find the peer: listen, dial, agree on
	// features, authenticate; then ConnUp. Whatever it meets, it goes on trying until CloseConnection.
	OpenConnection struct{ After time.Duration }

	// CloseConnection ends looking for the peer, or closes both sockets (data
	// first) after what is queued for them was sent or Linger passed. The
	// owner answers with ConnClosed once nothing of it is in flight any more.
	CloseConnection struct{ Linger time.Duration }

	// StartDevice makes the volume's block device appear with Size bytes: it was promoted.
	StartDevice struct {
		Vol  int
		Size int64
	}

	// ResizeDevice tells that the size of the volume has changed.
	ResizeDevice struct {
		Vol  int
		Size int64
	}

	// CloseBacking gives the backing store of a volume back: it is detached
	// and nothing is in flight on it any more.
	CloseBacking struct{ Vol int }

	// RememberBlockSize says which logical block size the data of a disk is written in. Its metadata has no field for that; the owner
	// tells it again when a disk of that volume is attached.
	RememberBlockSize struct {
		Vol        int
		DeviceUUID uint64
		Size       int64 // bytes
	}

	// AbandonDisk says that nobody waits any more for the I/Os in flight on the disk of a volume. They need not be started,
	// nor repeated; those that the kernel has are answered by DiskDone as ever.
	AbandonDisk struct{ Vol int }

	// UsersWork is what a daemon that comes after this one has to know about the users of a volume's device, should they
	// outlive this one: see Users. The owner keeps it before it does anything else of the same Output.
	UsersWork struct {
		Vol   int
		Users Users
	}

	// Reply answers a Command. Err is nil, a statemachine.Refusal or an error that says what to do next.
	Reply struct {
		ID  uint64
		Err error
	}

	// StateChange is one line of the log: a volume went From one state To another because of Cause.
	StateChange struct {
		Vol      int
		From, To sm.State
		Cause    string
		Level    Level
	}

	// Notice is something that a person may need to know.
	Notice struct {
		Vol   int // -1: the whole resource
		Level Level
		Text  string
	}
)

func (OpenConnection) event()    {}
func (CloseConnection) event()   {}
func (StartDevice) event()       {}
func (ResizeDevice) event()      {}
func (CloseBacking) event()      {}
func (AbandonDisk) event()       {}
func (RememberBlockSize) event() {}
func (UsersWork) event()         {}
func (Reply) event()             {}
func (StateChange) event()       {}
func (Notice) event()            {}

// Level says how much a StateChange or Notice matters.
type Level uint8

const (
	Info  Level = iota
	Warn        // redundancy is lost
	Error       // data is at risk, or a person must act
)

// Command is an administrative order; it is answered by one Reply.
type Command interface{ command() }

type (
	// Attach takes the opened backing store of a volume. Sizes in bytes. The
	// metadata must be there (create-md). Flush says that the device has a volatile cache, BlockSize what
	// it can be read and written in.
	Attach struct {
		Vol                   int
		BackingSize, MetaSize int64 // MetaSize == BackingSize for internal metadata
		BlockSize             int64 // logical block size, a power of two; 0 is 512
		Flush, MetaFlush      bool
		DeviceUUID            uint64 // random; used when the metadata has none
		DataBlock             int64  // what RememberBlockSize said last,
		DataBlockOf           uint64 // for this device UUID
	}
	// Detach gives the backing store up. Force does not ask the peer, gives up an attach that is under
	// way, and does not wait for what is in flight there: whoever waits for it is told that it has failed. The disk stays
	// Failed until the kernel has ended it.
	Detach struct {
		Vol   int
		Force bool
	}
	// Connect starts looking for the peer.
	Connect struct{ DiscardMyData bool }
	// Disconnect ends the connection; Force without asking the peer. It is over when nothing that the peer has sent is in flight on
	// a disk; a forced one gives up a disk that does not answer.
	Disconnect struct{ Force bool }
	// Promote makes this node Primary. Force promotes without UpToDate data.
	Promote struct{ Force bool }
	// Demote makes this node Secondary. The owner has stopped the devices before.
	Demote struct{}
	// Invalidate discards the local data of a volume and copies the peer's.
	Invalidate struct{ Vol int }
	// InvalidateRemote discards the peer's data of a volume and copies ours.
	InvalidateRemote struct{ Vol int }
	// PauseSync sets or clears this node's pause of the resync of a volume.
	PauseSync struct {
		Vol int
		On  bool
	}
	// NewCurrentUUID starts a new data generation; ClearBitmap also declares both disks equal.
	NewCurrentUUID struct {
		Vol         int
		ClearBitmap bool
	}
	// LoseUsers gives up those who wait for a volume's device since their daemon has died: they are not served any more.
	LoseUsers struct{ Vol int }
	// Unused says that nobody holds a volume's device any more: whoever used it when a daemon died.
	Unused struct{ Vol int }
	// Down disconnects, demotes and detaches everything. Force does not ask the peer, and gives up a disk that does not answer.
	Down struct{ Force bool }
)

func (Attach) command()           {}
func (Detach) command()           {}
func (Connect) command()          {}
func (Disconnect) command()       {}
func (Promote) command()          {}
func (Demote) command()           {}
func (Invalidate) command()       {}
func (InvalidateRemote) command() {}
func (PauseSync) command()        {}
func (NewCurrentUUID) command()   {}
func (LoseUsers) command()        {}
func (Unused) command()           {}
func (Down) command()             {}

// The methods that an owner calls, in one place:
//
//	New(Config) (*Engine, error)
//	(e) Submit(now, *Request)                     an application request
//	(e) DiskDone(now, Token, Errno)               a DiskIO has ended
//	(e) ConnUp(now, Link)                         both sockets are up, features agreed, peer authenticated
//	(e) ConnRefused(now, error)                   the sockets cannot be used: StandAlone
//	(e) ConnDown(now, Trouble)                    a socket died, the link went away
//	(e) ConnClosed(now)                           answer to CloseConnection
//	(e) PayloadSpace(sock) []byte                 where the next bytes of the socket belong directly, or nil
//	(e) PayloadFilled(now, sock, n)               n bytes were put there
//	(e) Receive(now, sock, b) (used int)          more bytes; used < len(b): no memory, the disks are behind, or it is much; offer
//	                                              the rest again in a later turn, when ReceiveReady(sock) is true
//	(e) ReceiveReady(sock) bool
//	(e) NextSend(sock) []Segment                  everything queued, as one send; nil if nothing, or if one is in flight
//	(e) Sent(now, sock)                           that send went out whole
//	(e) Command(now, id, Command)
//	(e) Withdraw(now, id) (Withdrawal, string)    nobody waits for its Reply any more
//	(e) Tick(now)                                 timers; call when Deadline has passed, and after every batch
//	(e) Deadline() Instant                        when Tick has something to do, or Never
//	(e) Drain() *Output
//	(e) Status() Status                           a snapshot for people and for tests
