package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// execTerminal runs the command on a pseudo terminal, for people.
func (j *job) execTerminal(cmd *exec.Cmd) (channel.ExitData, error) {
	master, slave, err := openTerminal()
	if err != nil {
		return channel.ExitData{}, err
	}
	defer master.Close()
	j.mu.Lock()
	j.terminal = master
	j.mu.Unlock()
	if j.start.Rows > 0 {
		j.resize(j.start.Rows, j.start.Cols)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true // on descriptor 0
	err = j.begin(cmd)
	slave.Close()
	if err != nil {
		return channel.ExitData{}, err
	}
	go j.feed(master)
	drained := make(chan struct{})
	go func() {
		// Ends with EIO when the last process has closed the terminal.
		_, _ = io.Copy(j.stream(channel.Stdout), onlyReader{master})
		close(drained)
	}()
	result, err := j.wait(cmd)
	select {
	case <-drained:
	case <-time.After(outputGrace):
	}
	j.mu.Lock()
	j.terminal = nil
	j.mu.Unlock()
	return result, err
}

// openTerminal makes a pseudo terminal and returns both ends.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var n int
	err = control(master, func(fd int) (err error) {
		if n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

// control calls f with the file's descriptor, which stays open meanwhile.
func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := conn.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
