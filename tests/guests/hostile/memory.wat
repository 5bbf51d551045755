;; Takes all the memory there is, and writes into every page of it.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32)
      (local $at i32)
      (block $full
        (loop $more
          (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
          (local.set $at (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)))
          (memory.fill (local.get $at) (i32.const 1) (i32.const 1048576))
          (br $more)))
      (unreachable)))
  {{only_run}}
)
