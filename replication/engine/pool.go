package engine

import "math/bits"

// PageSize is the alignment and the unit of every buffer, in bytes.
const PageSize = 4096

const maxOrder = 8 // 1 MiB: the largest request

// pool hands out page-aligned pieces of one region: a buddy allocator, because
// pieces of 4 KiB to 1 MiB come and go for ever and nothing may be left over.
type pool struct {
	mem   []byte
	free  [maxOrder + 1][]int32 // page numbers of free blocks
	order []int8                // of the free block that starts at a page, -1: none
	where []int32               // position of that block in its free list
	used  int64                 // bytes handed out
}

func newPool(mem []byte) *pool {
	pages := len(mem) / PageSize >> maxOrder << maxOrder
	p := &pool{mem: mem, order: make([]int8, pages), where: make([]int32, pages)}
	for i := range p.order {
		p.order[i] = -1
	}
	for o := range p.free {
		p.free[o] = make([]int32, 0, pages>>o)
	}
	for page := pages - 1<<maxOrder; page >= 0; page -= 1 << maxOrder {
		p.push(int32(page), maxOrder)
	}
	return p
}

// orderOf is the order of the smallest block that holds n bytes.
func orderOf(n int) int {
	pages := (n + PageSize - 1) / PageSize
	return bits.Len(uint(max(pages, 1) - 1))
}

// get returns n bytes, page aligned, or nil if there is no room now. n is at most 1 MiB.
func (p *pool) get(n int) []byte {
	want := orderOf(n)
	for o := want; o <= maxOrder; o++ {
		if len(p.free[o]) == 0 {
			continue
		}
		page := p.free[o][len(p.free[o])-1]
		p.remove(page)
		for o > want {
			o--
			p.push(page+1<<o, o)
		}
		p.used += PageSize << want
		off := int(page) * PageSize
		return p.mem[off : off+n : off+PageSize<<want]
	}
	return nil
}

// put takes back what get returned; the capacity tells its order.
func (p *pool) put(b []byte) {
	o := orderOf(cap(b))
	page := p.pageOf(b)
	p.used -= PageSize << o
	for o < maxOrder {
		buddy := page ^ 1<<o
		if int(p.order[buddy]) != o {
			break
		}
		p.remove(buddy)
		page &^= 1 << o
		o++
	}
	p.push(page, o)
}

func (p *pool) push(page int32, o int) {
	p.order[page] = int8(o)
	p.where[page] = int32(len(p.free[o]))
	p.free[o] = append(p.free[o], page)
}

func (p *pool) remove(page int32) {
	list := p.free[p.order[page]]
	last := list[len(list)-1]
	list[p.where[page]] = last
	p.where[last] = p.where[page]
	p.free[p.order[page]] = list[:len(list)-1]
	p.order[page] = -1
}

// fits reports whether get(n) would succeed.
func (p *pool) fits(n int) bool {
	for o := orderOf(n); o <= maxOrder; o++ {
		if len(p.free[o]) > 0 {
			return true
		}
	}
	return false
}
