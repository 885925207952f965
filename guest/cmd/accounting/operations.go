//go:build linux

package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// operation is an opcode that can be queued behind a poll.
type operation struct {
	name string
	request
	// prepare, when it is set, is called with the ring before.
	prepare func(*uring.Ring) error
}

// arguments are what the operations work on. What is in memory stands in one page outside
// Go's heap.
type arguments struct {
	page []byte
	// socket is one end of a stream, with a byte to receive for RECV and one for RECVMSG.
	socket int32
	// vector is a sector of the buffer, message a byte of it.
	vector  *unix.Iovec
	message *unix.Msghdr
	// path is a file that does not exist, address nobody's socket, how is for OPENAT2.
	path, address, how []byte
}

// arguments makes them; the buffer is the books' own.
func (b *books) arguments() (*arguments, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	const bytes = 2 // for RECV and RECVMSG
	if _, err := unix.Write(pair[1], make([]byte, bytes)); err != nil {
		return nil, fmt.Errorf("write to a socket: %w", err)
	}
	page, err := machine.Buffer(4096)
	if err != nil {
		return nil, err
	}
	a := &arguments{
		page: page, socket: int32(pair[0]),
		vector: (*unix.Iovec)(uring.Pointer(page)), message: (*unix.Msghdr)(uring.Pointer(page[2048:])),
		path: page[3200:3232], address: page[3232:3236], how: page[3264 : 3264+unix.SizeofOpenHow],
	}
	*a.vector = unix.Iovec{Base: &b.page[0], Len: machine.Sector}
	byteVector := (*unix.Iovec)(uring.Pointer(page[1024:]))
	*byteVector = unix.Iovec{Base: &b.page[0], Len: 1}
	*a.message = unix.Msghdr{Iov: byteVector, Iovlen: 1}
	copy(a.path, "/no/such/file\x00")
	copy(a.address, []byte{unix.AF_UNIX, 0, 0, 'x'})
	return a, nil
}

// after is a time from now, which stands at that place of the page.
func (a *arguments) after(at int, d time.Duration) func(*uring.SQE) {
	spec := a.page[at : at+16]
	*(*unix.Timespec)(uring.Pointer(spec)) = unix.NsecToTimespec(int64(d))
	return func(sqe *uring.SQE) { sqe.FD, sqe.Addr, sqe.Len = -1, uring.Address(spec), 1 }
}

// operations are all opcodes of v5.10 that the kernel has and takes. What each returns shows that it ran; those
// that would need more than a file or a buffer fail, in a way of their own.
func (b *books) operations() ([]operation, error) {
	args, err := b.arguments()
	if err != nil {
		return nil, err
	}
	kernel, err := uring.Probe()
	if err != nil {
		return nil, err
	}
	op := func(name string, opcode uint8, want int32, fill func(*uring.SQE)) operation {
		return operation{name: name, request: request{func(sqe *uring.SQE) {
			fill(sqe)
			sqe.Opcode = opcode
		}, want}}
	}
	const noFile, invalid, badFile = -int32(unix.ENOENT), -int32(unix.EINVAL), -int32(unix.EBADF)
	nothing := func(*uring.SQE) {}
	sector := b.transfer(uring.OpRead, b.zero).fill
	named := func(sqe *uring.SQE) { sqe.FD, sqe.Addr = unix.AT_FDCWD, uring.Address(args.path) }
	vectored := func(sqe *uring.SQE) {
		sqe.FD, sqe.Addr, sqe.Len = b.zero, uint64(uintptr(unsafe.Pointer(args.vector))), 1
	}
	socket := func(sqe *uring.SQE) { sqe.FD, sqe.Addr, sqe.Len = args.socket, uring.Address(b.page), 1 }
	socketMessage := func(sqe *uring.SQE) {
		sqe.FD, sqe.Addr, sqe.Len = args.socket, uint64(uintptr(unsafe.Pointer(args.message))), 1
	}
	// A request that does not exist.
	const noSuch = -int32(unix.ENOENT)
	stranger := func(sqe *uring.SQE) { sqe.Addr = 1 << 40 }
	list := []operation{
		op("NOP", uring.OpNop, 0, nothing),
		op("READV", uring.OpReadv, machine.Sector, vectored),
		op("WRITEV", uring.OpWritev, machine.Sector, vectored),
		op("FSYNC", uring.OpFsync, 0, func(sqe *uring.SQE) { sqe.FD = b.disk }),
		op("READ_FIXED", uring.OpReadFixed, machine.Sector, sector),
		op("WRITE_FIXED", uring.OpWriteFixed, machine.Sector, sector),
		op("POLL_ADD", uring.OpPollAdd, unix.POLLOUT, func(sqe *uring.SQE) { sqe.FD, sqe.OpFlags = b.zero, unix.POLLOUT }),
		op("POLL_REMOVE", uring.OpPollRemove, noSuch, stranger),
		op("SYNC_FILE_RANGE", uring.OpSyncFileRange, 0, func(sqe *uring.SQE) { sqe.FD = b.disk }),
		op("SENDMSG", uring.OpSendMsg, 1, socketMessage),
		op("RECVMSG", uring.OpRecvMsg, 1, socketMessage),
		op("TIMEOUT", uring.OpTimeout, -int32(unix.ETIME), args.after(3072, time.Microsecond)),
		op("TIMEOUT_REMOVE", uring.OpTimeoutRemove, noSuch, stranger),
		// The socket does not listen, and is connected.
		op("ACCEPT", uring.OpAccept, invalid, func(sqe *uring.SQE) { sqe.FD = args.socket }),
		op("ASYNC_CANCEL", uring.OpAsyncCancel, noSuch, stranger),
		// It comes with the poll that it is linked to, and goes with it.
		op("LINK_TIMEOUT", uring.OpLinkTimeout, -int32(unix.ECANCELED), args.after(3104, time.Hour)),
		op("CONNECT", uring.OpConnect, -int32(unix.ECONNREFUSED), func(sqe *uring.SQE) {
			sqe.FD, sqe.Addr, sqe.Off = args.socket, uring.Address(args.address), uint64(len(args.address))
		}),
		op("FALLOCATE", uring.OpFallocate, invalid, func(sqe *uring.SQE) { sqe.FD = b.disk }),
		op("OPENAT", uring.OpOpenat, noFile, named),
		op("CLOSE", uring.OpClose, badFile, func(sqe *uring.SQE) { sqe.FD = 1 << 20 }),
		// The ring has no registered files.
		op("FILES_UPDATE", uring.OpFilesUpdate, invalid, func(sqe *uring.SQE) { sqe.Addr, sqe.Len = uring.Address(b.page), 1 }),
		op("STATX", uring.OpStatx, noFile, func(sqe *uring.SQE) {
			named(sqe)
			sqe.Off = uring.Address(b.page)
		}),
		op("READ", uring.OpRead, machine.Sector, sector),
		op("WRITE", uring.OpWrite, machine.Sector, sector),
		op("FADVISE", uring.OpFadvise, 0, func(sqe *uring.SQE) { sqe.FD = b.disk }),
		op("MADVISE", uring.OpMadvise, 0, func(sqe *uring.SQE) { sqe.Addr, sqe.Len = uring.Address(b.page), 4096 }),
		op("SEND", uring.OpSend, 1, socket),
		op("RECV", uring.OpRecv, 1, socket),
		op("OPENAT2", uring.OpOpenat2, noFile, func(sqe *uring.SQE) {
			named(sqe)
			sqe.Off, sqe.Len = uring.Address(args.how), uint32(len(args.how))
		}),
		op("EPOLL_CTL", uring.OpEpollCtl, badFile, func(sqe *uring.SQE) { sqe.FD, sqe.Len = -1, unix.EPOLL_CTL_DEL }),
		// Of no bytes.
		op("SPLICE", uring.OpSplice, 0, func(sqe *uring.SQE) { sqe.FD, sqe.SpliceFDIn = b.zero, b.zero }),
		op("TEE", uring.OpTee, 0, func(sqe *uring.SQE) { sqe.FD, sqe.SpliceFDIn = b.zero, b.zero }),
		// Its descriptor is the number of buffers.
		op("PROVIDE_BUFFERS", uring.OpProvideBuffers, 0, func(sqe *uring.SQE) {
			sqe.FD, sqe.Addr, sqe.Len = 1, uring.Address(b.page), machine.Sector
		}),
		op("REMOVE_BUFFERS", uring.OpRemoveBuffers, noFile, func(sqe *uring.SQE) { sqe.FD = 1 }),
	}
	list = slices.DeleteFunc(list, func(o operation) bool {
		var sqe uring.SQE
		o.fill(&sqe)
		refused := sqe.Opcode == uring.OpClose && kernel.Has(uring.CloseLooksLater) == uring.Before
		return refused || int(sqe.Opcode) >= kernel.Opcodes
	})
	for i := range list {
		if list[i].name == "READ_FIXED" || list[i].name == "WRITE_FIXED" {
			list[i].prepare = b.register
		}
	}
	return list, nil
}

// register registers the page as the ring's only buffer.
func (b *books) register(r *uring.Ring) error {
	buffer := unix.Iovec{Base: &b.page[0], Len: uint64(len(b.page))}
	var pin runtime.Pinner
	pin.Pin(&buffer)
	defer pin.Unpin()
	if _, err := uring.Register(r.FD, uring.RegisterBuffers, unsafe.Pointer(&buffer), 1); err != nil {
		return fmt.Errorf("register a buffer: %w", err)
	}
	return nil
}
