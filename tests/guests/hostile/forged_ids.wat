;; Names entries and cantrips that it was never given.
(component
  {{types}}
  {{gates}}
  {{libc}}
  {{call}}
  (core instance $gate (export "call" (func $call)))
  {{call_each}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "caller" "each" (func $each (param i32 i32 i32 i32) (result i32)))
    ;; Returns how many of them were answered: one digit.
    (func (export "run") (param i32 i32) (result i32)
      (i32.store8 (i32.const 1536)
        (i32.add (i32.const 48) (call $each (i32.const 16) (i32.const 9) (i32.const 2048) (i32.const 2316))))
      (i32.store8 (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1536))
      (i32.store (i32.const 1032) (i32.const 1))
      (i32.const 1024))
    (data (i32.const 16) "read_loom")
    (data (i32.const 2048) "{\22cursor\22: \22bafyr4ibuzqm42p5lpshmwq2tv2f3ootvuvx76rcykrkpmsbgvmawtysg7u\22}\0a{\22cursor\22: \2201m85xnw2jjqa6gh127g4xt5xhjqa6gh127g\22}\0a{\22cursor\22: \22\22}\0a{\22cursor\22: \22../../etc/passwd\22}\0a{\22entity\22: \2201m85xnw2jjqa6gh127g4xt5xhjqa6gh127g\22}\0a{\22loom\22: \22x\22}\0a{\22limit\22: 0}\0a{\22limit\22: 1000000}\0a"))
  {{run_each}}
)
