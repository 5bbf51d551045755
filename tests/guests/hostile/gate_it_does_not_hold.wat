;; Calls a gate by a name that its circle does not hold.
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
      (call $call (i32.const 16) (i32.const 10) (i32.const 32) (i32.const 10) (i32.const 1024))
      (i32.const 1024))
    (data (i32.const 16) "write_file") (data (i32.const 32) "[\22a\22, \22b\22]"))
  {{run}}
)
