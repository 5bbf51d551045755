;; Calls a gate a hundred thousand times, whatever it is told.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $count i32)
      (loop $more
        (call $call (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5) (i32.const 1024))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $count) (i32.const 100000))))
      (i32.const 1024))
    (data (i32.const 16) "echo") (data (i32.const 32) "[\22a\22]"))
  {{run}}
)
