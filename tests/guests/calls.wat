;; Calls a gate as many thousand times as its intent has letters.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "libc" "reset" (func $reset))
    (import "gate" "call" (func $call (param i32 i32 i32 i32 i32)))
    (func (export "run") (param $at i32) (param $thousands i32) (result i32)
      (local $left i32)
      (local.set $left (i32.mul (local.get $thousands) (i32.const 1000)))
      (loop $more
        ;; What the host wrote is not needed any more.
        (call $reset)
        (call $call (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 5) (i32.const 1024))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $more (local.get $left)))
      (i32.const 1024))
    (data (i32.const 16) "echo") (data (i32.const 32) "[\22x\22]"))
  {{run}}
)
