;; Names a gate outside of its memory.
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
      (call $call (i32.const 0x7fff0000) (i32.const 64) (i32.const 0) (i32.const 0) (i32.const 1024))
      (i32.const 1024)))
  {{run}}
)
